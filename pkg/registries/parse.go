package registries

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skiff-k8s/skiff/pkg/config"
)

// wildcard stands for every registry that has no entry of its own.
const wildcard = "*"

// document is what a registries.yaml says, found right.
type document struct {
	mirrors map[string][]endpoint // by registry; in the order in which to ask
	configs map[string]access     // by host of an endpoint
}

// endpoint is a place to ask for images.
type endpoint struct {
	url  string // without the /v2 that every registry has
	host string // with the port
	root bool   // the path of url is the root of the API, and not /v2
}

// access says how to talk to a host.
type access struct {
	authorization string // value of the HTTP header
	ca            string
	cert, key     string
	skipVerify    bool
}

// secret says whether the document has passwords.
func (d *document) secret() bool {
	for _, a := range d.configs {
		if a.authorization != "" {
			return true
		}
	}
	return false
}

// parser collects every problem. Values below auth are never in a message.
type parser struct {
	path     string
	problems config.Problems
}

func parse(path string, data []byte) (*document, error) {
	p := &parser{path: path}
	d := &document{mirrors: map[string][]endpoint{}, configs: map[string]access{}}
	if root := p.document(data); root != nil {
		p.fields(root, "", map[string]func(*yaml.Node, string){
			"mirrors": func(n *yaml.Node, at string) {
				p.each(n, at, func(name, value *yaml.Node, at string) {
					p.registry(name, at)
					d.mirrors[name.Value] = p.mirror(value, at)
				})
			},
			"configs": func(n *yaml.Node, at string) {
				p.each(n, at, func(name, value *yaml.Node, at string) {
					p.registry(name, at)
					d.configs[name.Value] = p.access(value, at)
				})
			},
		})
	}
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	return d, nil
}

func (p *parser) problem(line int, key, message, fix string) {
	p.problems = append(p.problems, config.Problem{
		Origin: config.Origin{Source: config.FromFile, Name: p.path, Line: line},
		Key:    key, Message: message, Fix: fix,
	})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// document is the root of the file, nil when there is none.
func (p *parser) document(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		line, message := 0, err.Error()
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			line, _ = strconv.Atoi(m[1])
			message = m[2]
		}
		// A password that begins with a star is taken for the name of an anchor.
		if strings.HasPrefix(message, "unknown anchor") {
			message = "a value begins with *"
		}
		p.problem(line, "", "it is not YAML: "+message, "see to indentation, the colon after a key, and quotes around values")
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		p.problem(0, "", "it has more than one YAML document", "leave one")
		return nil
	}
	return doc.Content[0]
}

// each visits the entries of a mapping; nothing written is an empty one.
func (p *parser) each(n *yaml.Node, at string, visit func(name, value *yaml.Node, at string)) {
	n = target(n)
	if empty(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.problem(n.Line, at, "it is not a list of KEY: VALUE lines", "write the keys below it, indented")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := target(n.Content[i]), target(n.Content[i+1])
		if name.Kind != yaml.ScalarNode {
			p.problem(name.Line, at, "a key is not a plain word", "")
			continue
		}
		key := join(at, name.Value)
		if first, twice := seen[name.Value]; twice {
			p.problem(name.Line, key, "the key is there twice, first in line "+strconv.Itoa(first), "leave one of them out")
			continue
		}
		seen[name.Value] = name.Line
		visit(name, value, key)
	}
}

// fields visits a mapping whose keys are known.
func (p *parser) fields(n *yaml.Node, at string, known map[string]func(n *yaml.Node, at string)) {
	var names []string
	for name := range known {
		names = append(names, name)
	}
	p.each(n, at, func(name, value *yaml.Node, key string) {
		if visit := known[name.Value]; visit != nil {
			visit(value, key)
			return
		}
		p.problem(name.Line, key, "there is no such key", meant(name.Value, names))
	})
}

// text is a plain value. The message does not repeat it: it may be a password.
func (p *parser) text(n *yaml.Node, at string) string {
	n = target(n)
	switch {
	case empty(n):
		return ""
	case n.Kind != yaml.ScalarNode:
		p.problem(n.Line, at, "it is not one plain value", "write it as one word or quote it")
		return ""
	case strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		p.problem(n.Line, at, "it has line breaks or control characters in it", "write it on one line")
		return ""
	}
	return n.Value
}

func (p *parser) bool(n *yaml.Node, at string) bool {
	text := p.text(n, at)
	on, err := strconv.ParseBool(text)
	if err != nil && text != "" {
		p.problem(n.Line, at, "it is neither true nor false", "")
	}
	return on
}

func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func empty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// join makes a path of keys; keys with dots, as registries have, are quoted.
func join(at, key string) string {
	if strings.ContainsAny(key, ".:*[]") {
		return at + "[" + strconv.Quote(key) + "]"
	}
	if at == "" {
		return key
	}
	return at + "." + key
}
