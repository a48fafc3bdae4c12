package token

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Read is the token that a user gave as a text or in a file, which has it on
// its one line; the zero Token when both are empty. No error has any part of
// the token in it.
func Read(text, file string) (Token, error) {
	if text != "" {
		return Parse(text)
	}
	if file == "" {
		return Token{}, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return Token{}, fmt.Errorf("reading the token in %s: %w", file, err)
	}
	t, err := Parse(strings.TrimSpace(string(data)))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}
