package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// progress reads what ginkgo writes and prints a line for each test that ends.
type progress struct {
	out     io.Writer
	begin   time.Time
	line    bytes.Buffer // what has come of a line
	verdict string       // of the test whose name comes next
	name    string       // of the test that runs, where only one does
	done    int
}

var (
	// "• [4.516 seconds]", "• [FAILED] [300.1 seconds]": the name is in the next
	// line, or, for a test that passed with nothing else running, came before.
	ended = regexp.MustCompile(`^(?:•|S) (?:\[([A-Z ]+)\] )?\[[0-9.]+ seconds\]$`)
	// The labels of a test come after its name; the name has them, too.
	labels = regexp.MustCompile(` \[[^\]]*, Conformance[^\]]*\]$`)
)

// Write takes the output in pieces of any size.
func (p *progress) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		piece, after, whole := bytes.Cut(rest, []byte("\n"))
		p.line.Write(piece)
		rest = after
		if whole {
			p.read(p.line.String())
			p.line.Reset()
		}
	}
	return len(data), nil
}

func (p *progress) read(line string) {
	if m := ended.FindStringSubmatch(line); m != nil {
		p.verdict = strings.ToLower(m[1])
		if p.verdict == "" {
			p.verdict = "passed"
		}
		return
	}
	switch {
	case p.verdict == "":
		if strings.HasPrefix(line, "[sig-") {
			p.name = line
		}
		return
	case strings.HasPrefix(line, "---"):
		line = p.name
	}
	p.done++
	fmt.Fprintf(p.out, "%6.0f s %4d %-7s %s\n", time.Since(p.begin).Seconds(), p.done, p.verdict, labels.ReplaceAllString(line, ""))
	p.verdict = ""
}
