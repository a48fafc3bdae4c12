package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes: one that is larger is some
// other file by mistake.
const maxFile = 1 << 20

// entry is one key of a file with what is said for it.
type entry struct {
	key    string // without the + of key+
	add    bool   // key+: append to what earlier files say
	list   bool   // written as a YAML list
	null   bool   // nothing written: back to the default
	values []value
	origin Origin
}

// readFiles reads the main file and its drop-ins in the order in which they
// count. A missing main file is only a problem when it was asked for.
func readFiles(path string, asked Origin) (files []string, entries []entry, problems Problems) {
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		return nil, nil, Problems{{Origin: asked, Key: ConfigFlag,
			Message: "configuration files are not fetched from URLs", Fix: "fetch " + path + " into a file first"}}
	}
	names := []string{path}
	dropIns, err := dropIns(path + ".d")
	if err != nil {
		problems = append(problems, Problem{Origin: Origin{Source: FromFile, Name: path + ".d"}, Message: reason(err)})
	}
	for i, name := range append(names, dropIns...) {
		data, err := readBounded(name)
		switch {
		case i == 0 && errors.Is(err, fs.ErrNotExist) && asked.Source == FromDefault:
			continue
		case i == 0 && errors.Is(err, fs.ErrNotExist):
			problems = append(problems, Problem{Origin: asked, Key: ConfigFlag,
				Message: "there is no file " + path, Fix: "make it, or leave " + asked.String() + " out"})
			continue
		case err != nil:
			problems = append(problems, Problem{Origin: Origin{Source: FromFile, Name: name}, Message: reason(err)})
			continue
		}
		more, bad := parseFile(name, data)
		files, entries, problems = append(files, name), append(entries, more...), append(problems, bad...)
	}
	return files, entries, problems
}

// reason is err without the path, which the problem's origin names already.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return "cannot be read: " + pathError.Err.Error()
	}
	return "cannot be read: " + err.Error()
}

// dropIns lists the drop-in files of a directory in alphabetical order. Names
// that begin with a dot are editors' files.
func dropIns(dir string) ([]string, error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range found {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it is larger than %d MiB, which no configuration file is", maxFile>>20)
	}
	return data, err
}

// parseFile turns the text of a file into entries. It knows nothing of the
// flag table; what keys there are is looked at when entries are merged.
func parseFile(path string, data []byte) ([]entry, Problems) {
	at := Origin{Source: FromFile, Name: path}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, Problems{syntaxProblem(at, err)}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, Problems{{Origin: at, Message: "it has more than one YAML document", Fix: "put further settings into files in " + path + ".d"}}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		at.Line = root.Line
		return nil, Problems{{Origin: at, Message: "it is not a list of KEY: VALUE lines", Fix: "write settings like \"debug: true\", one per line"}}
	}
	return parseMapping(at, root)
}

func parseMapping(at Origin, root *yaml.Node) (entries []entry, problems Problems) {
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, node := root.Content[i], root.Content[i+1]
		origin := at
		origin.Line = name.Line
		if name.Kind != yaml.ScalarNode || name.Value == "<<" {
			problems = append(problems, Problem{Origin: origin, Message: "a key is not a plain word", Fix: "write the name of a setting"})
			continue
		}
		if first, twice := seen[name.Value]; twice {
			problems = append(problems, Problem{Origin: origin, Key: name.Value,
				Message: "the key is there twice, first in line " + strconv.Itoa(first), Fix: "leave one of them out"})
			continue
		}
		seen[name.Value] = name.Line
		e, bad := parseEntry(origin, name.Value, node)
		if problems = append(problems, bad...); len(bad) == 0 {
			entries = append(entries, e)
		}
	}
	return entries, problems
}

func parseEntry(origin Origin, name string, node *yaml.Node) (entry, Problems) {
	key, add := strings.CutSuffix(name, "+")
	e := entry{key: key, add: add, origin: origin}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.ScalarNode:
		if e.null = node.Tag == "!!null"; !e.null {
			e.values = []value{{text: node.Value, origin: origin, path: key}}
		}
		return e, nil
	case yaml.SequenceNode:
		e.list = true
	default:
		return e, Problems{{Origin: origin, Key: key, Message: "it is a mapping (KEY: VALUE lines below it)",
			Fix: "write one value, or a list of \"- NAME=VALUE\" lines"}}
	}
	var problems Problems
	for i, item := range node.Content {
		path := fmt.Sprintf("%s[%d]", key, i)
		itemAt := origin
		itemAt.Line = item.Line
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			problems = append(problems, Problem{Origin: itemAt, Key: path,
				Message: "the item is not one plain value", Fix: "write it as one word or quote it"})
			continue
		}
		e.values = append(e.values, value{text: item.Value, origin: itemAt, path: path})
	}
	return e, slices.Clip(problems)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxProblem takes the line number out of the YAML library's message.
func syntaxProblem(at Origin, err error) Problem {
	message := err.Error()
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		message = m[2]
	}
	return Problem{Origin: at, Message: "it is not YAML: " + message, Fix: "see to indentation, quotes and the colon after a key"}
}
