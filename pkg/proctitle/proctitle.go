// Package proctitle takes secrets out of what others see of a process: its
// arguments, which everybody may read in the process list. Only main calls it;
// it imports the standard library only.
package proctitle

import (
	"strings"
	"unsafe"
)

// mask stands for each byte of a secret: the kernel shows as many bytes as the
// process was started with.
const mask = '*'

// Hide returns a copy of args and overwrites the values of the named flags,
// given without dashes, in the memory from which the kernel shows them. args
// has to be os.Args or a part of it, whose strings the Go runtime leaves where
// the kernel put them; nobody may hold other references to the values, which
// is why it belongs at the beginning of main.
func Hide(args []string, names []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.Clone(a)
	}
	secret := map[string]bool{}
	for _, n := range names {
		secret[n] = true
	}
	for i := 0; i < len(args); i++ {
		name, dashed := strings.CutPrefix(out[i], "-")
		name = strings.TrimPrefix(name, "-")
		if !dashed {
			continue
		}
		name, value, attached := strings.Cut(name, "=")
		switch {
		case !secret[name]:
		case attached:
			overwrite(args[i], len(out[i])-len(value))
		case i+1 < len(args):
			i++
			overwrite(args[i], 0)
		}
	}
	return out
}

// overwrite changes the bytes of s from an offset on, which is against the
// rules of the language for every string but those that the kernel made.
func overwrite(s string, from int) {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	for i := from; i < len(b); i++ {
		b[i] = mask
	}
}
