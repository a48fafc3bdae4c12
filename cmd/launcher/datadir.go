package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// dataDir finds out which data directory the main program is going to use:
// from its arguments, its environment or its configuration files. It need not
// know all that may be written there, for the worst that comes of a wrong
// answer is that the program file lies below the default directory.
func dataDir(args []string, getenv func(string) string, configDir string) string {
	if dir := flagValue(args, "--data-dir", "-d"); dir != "" {
		return dir
	}
	if dir := getenv("SKIFF_DATA_DIR"); dir != "" {
		return dir
	}
	file := flagValue(args, "--config", "-c")
	if file == "" {
		file = getenv("SKIFF_CONFIG_FILE")
	}
	if file == "" {
		file = layout.Layout{Config: configDir}.ConfigFile()
	}
	dir := layout.DefaultDataDir
	dropIns, _ := filepath.Glob(file + ".d/*.y*ml")
	slices.Sort(dropIns)
	for _, f := range append([]string{file}, dropIns...) {
		if d := fileValue(f, "data-dir"); d != "" {
			dir = d
		}
	}
	return dir
}

// flagValue is the last value that a flag was given, as the main program's own
// parser takes the last.
func flagValue(args []string, names ...string) (value string) {
	for i, arg := range args {
		if arg == "--" || arg == "kubectl" || arg == "ctr" {
			break // what follows are somebody else's flags
		}
		for _, name := range names {
			if v, ok := strings.CutPrefix(arg, name+"="); ok {
				value = v
			} else if arg == name && i+1 < len(args) {
				value = args[i+1]
			}
		}
	}
	return value
}

// fileValue is the scalar of a top-level key of a YAML file, or nothing.
func fileValue(path, key string) (value string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			v, _, _ = strings.Cut(v, " #")
			value = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return value
}
