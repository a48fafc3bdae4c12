package dns

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
)

// Suffixes of the keys in the ConfigMap of the user's own configuration; keys
// with other suffixes are left alone.
const (
	overrideSuffix = ".override" // directives for the main server block
	serverSuffix   = ".server"   // server blocks
)

// custom is the user's own configuration, parsed. A nil *custom is none.
type custom struct {
	data      map[string]string            // as in the ConfigMap
	overrides map[string][]caddyfile.Token // by directive
	servers   []caddyfile.ServerBlock
}

// parseCustom reads the data of the ConfigMap. Errors name key and line.
func parseCustom(data map[string]string) (*custom, error) {
	c := &custom{data: data, overrides: map[string][]caddyfile.Token{}}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(data)) {
		switch {
		case strings.HasSuffix(key, overrideSuffix):
			blocks, err := parseSnippet(key, overrideText(data[key]))
			if err == nil && (len(blocks) != 1 || len(blocks[0].Keys) != 1 || blocks[0].Keys[0] != ".") {
				err = fmt.Errorf("%s: braces do not match", key)
			}
			if err == nil && blocks[0].Tokens["bind"] != nil {
				err = fmt.Errorf("%s: \"bind\" cannot be changed for the main server block; use a key that ends in %q", key, serverSuffix)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for directive, tokens := range blocks[0].Tokens {
				c.overrides[directive] = append(c.overrides[directive], separated(key, tokens)...)
			}
		case strings.HasSuffix(key, serverSuffix):
			blocks, err := parseSnippet(key, data[key])
			if err != nil {
				errs = append(errs, err)
				continue
			}
			c.servers = append(c.servers, blocks...)
		}
	}
	return c, errors.Join(errs...)
}

// overrideText makes a server block of a snippet without moving its lines.
func overrideText(snippet string) string { return ". { " + snippet + "\n}\n" }

func parseSnippet(key, text string) ([]caddyfile.ServerBlock, error) {
	tokens := caddyfile.NewDispenser(key, strings.NewReader(text))
	for tokens.Next() {
		switch word := tokens.Val(); {
		case word == "import": // anywhere: no other directive has such an argument
			return nil, tokens.Err("\"import\" is not available: it would read files of the node")
		case strings.Contains(word, "{$"), strings.Contains(word, "{%"):
			return nil, tokens.Errf("%q would insert a variable of the node's environment, which is not available", word)
		}
	}
	var valid []string
	for _, directive := range dnsserver.Directives {
		if !ours(directive) {
			valid = append(valid, directive)
		}
	}
	blocks, err := caddyfile.Parse(key, strings.NewReader(text), valid)
	if err != nil {
		if strings.Contains(err.Error(), "Unknown directive") {
			err = fmt.Errorf("%w (available: %s)", err, strings.Join(valid, ", "))
		}
		return nil, err
	}
	for _, block := range blocks {
		for _, zone := range block.Keys {
			if strings.Contains(zone, "://") && !strings.HasPrefix(zone, "dns://") {
				return nil, fmt.Errorf("%s: %s: only plain DNS can be served", key, zone)
			}
		}
		for _, list := range block.Tokens {
			for _, token := range list {
				if !quotable(token.Text) {
					return nil, fmt.Errorf("%s:%d: %q: a backslash before a quote or the end cannot be kept", key, token.Line, token.Text)
				}
			}
		}
	}
	return blocks, nil
}

// separated marks whose tokens they are, so that the last line of one key and
// the first of the next are not taken for one.
func separated(key string, tokens []caddyfile.Token) []caddyfile.Token {
	out := slices.Clone(tokens)
	for i := range out {
		out[i].File = key
	}
	return out
}

// has says whether the user brings a directive that replaces ours.
func (c *custom) has(directive string) bool {
	return c != nil && len(c.overrides[directive]) > 0
}

// directives are the user's lines for the main server block.
func (c *custom) directives() string {
	if c == nil {
		return ""
	}
	return lines(c.overrides)
}

// serverBlocks are the user's own. They listen where the main one does, if they
// do not say otherwise: on the wildcard address they would take port 53 of the
// whole host.
func (c *custom) serverBlocks(listen []netip.Addr) string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	for _, block := range c.servers {
		fmt.Fprintf(&b, "%s {\n", strings.Join(block.Keys, " "))
		if block.Tokens["bind"] == nil {
			fmt.Fprintf(&b, "    bind %s\n", joined(listen))
		}
		b.WriteString(lines(block.Tokens))
		b.WriteString("}\n")
	}
	return b.String()
}

// lines turns tokens back into text.
func lines(directives map[string][]caddyfile.Token) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(directives)) {
		for i, token := range directives[name] {
			switch last := max(i-1, 0); {
			case i == 0:
				b.WriteString("    ")
			case directives[name][last].Line != token.Line || directives[name][last].File != token.File:
				b.WriteString("\n    ")
			default:
				b.WriteString(" ")
			}
			b.WriteString(quoted(token.Text))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func needsQuotes(text string) bool {
	return text == "" || strings.ContainsAny(text, " \t\r\n\v\f\u0085\u00a0#") || strings.HasPrefix(text, `"`)
}

// quotable says whether the syntax has a way to write text.
func quotable(text string) bool {
	return !needsQuotes(text) || !strings.Contains(text, `\"`) && !strings.HasSuffix(text, `\`)
}

func quoted(text string) string {
	if !needsQuotes(text) {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
}

// blame finds the keys that are wrong by themselves, after the whole was
// refused with err; an error that only shows in company is returned as it is.
func (c *custom) blame(err error) error {
	if c == nil {
		return err
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(c.data)) {
		text := c.data[key]
		switch {
		case strings.HasSuffix(key, overrideSuffix):
			text = overrideText(text)
		case !strings.HasSuffix(key, serverSuffix):
			continue
		}
		input := caddy.CaddyfileInput{Filepath: key, Contents: []byte(text), ServerTypeName: "dns"}
		if err := caddy.ValidateAndExecuteDirectives(input, nil, true); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if len(errs) == 0 {
		return err
	}
	return errors.Join(errs...)
}
