// Command flagdocs writes docs/flags.md, the reference of all settings, from
// the flag table in pkg/config. A test of that package fails while it is out
// of date.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"github.com/skiff-k8s/skiff/pkg/config"
)

func main() {
	out := flag.String("o", "docs/flags.md", "file to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "flagdocs:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	var page bytes.Buffer
	if err := config.WriteMarkdown(&page); err != nil {
		return err
	}
	return os.WriteFile(path, page.Bytes(), 0o644)
}
