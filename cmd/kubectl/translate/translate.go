// Package translate keeps kubectl from loading its translations in processes
// that are not kubectl. kubectl's packages translate their help texts while
// they are initialised, which makes the first of them unpack a catalogue: 14 ms
// and 4 MB at each start of a server. Only the package kubectl imports it.
//
// It has to be initialised before those packages. Go initialises what has no
// uninitialised imports in the order of import paths, so it imports nothing
// but the package that it changes, and comes before k8s.io/kubectl/pkg/cmd.
package translate

import (
	"os"
	"path/filepath"
	"strings"

	"k8s.io/kubectl/pkg/util/i18n"
)

func init() {
	i18n.LoadTranslationsFunc = func() error { return load(os.Args) }
}

func load(args []string) error {
	if !kubectl(args) {
		return nil
	}
	return i18n.LoadTranslations("kubectl", nil)
}

// kubectl says whether the command line runs kubectl: under its own name, as
// a command of skiff, or to complete one.
func kubectl(args []string) bool {
	switch {
	case len(args) > 0 && filepath.Base(args[0]) == "kubectl":
		return true
	case len(args) > 1 && args[1] == "kubectl":
		return true
	default:
		return len(args) > 2 && strings.HasPrefix(args[1], "__complete") && args[2] == "kubectl"
	}
}
