package config

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Redacted stands for a secret wherever a configuration is shown.
const Redacted = "(redacted)"

func (l *loader) settings() []Setting {
	var all []Setting
	for _, f := range l.flags {
		setting := Setting{Flag: f, Origins: []Origin{{}}}
		if f.field == nil {
			setting.Value = l.values[f.Name][0].text
		} else {
			setting.Value = redact(f, encode(f.field(&l.server)))
		}
		if values := l.values[f.Name]; len(values) > 0 {
			setting.Origins = nil
			for _, v := range values {
				setting.Origins = append(setting.Origins, v.origin)
			}
		}
		all = append(all, setting)
	}
	return all
}

var userInfo = regexp.MustCompile(`(://[^/@:]*:)[^/@]*@`)

// redact hides secrets: whole settings marked so, and inside arguments of
// components passwords in URLs and HTTP headers, which carry credentials.
func redact(f Flag, v any) any {
	list, isList := v.([]string)
	switch {
	case f.Secret && isList && len(list) > 0:
		return []string{Redacted}
	case f.Secret && !isList && v != "":
		return Redacted
	case !isList || !f.Whole:
		return v
	}
	for i, arg := range list {
		arg = userInfo.ReplaceAllString(arg, "${1}"+Redacted+"@")
		if name, _, _ := strings.Cut(arg, "="); strings.HasSuffix(name, "-header") {
			arg = name + "=" + Redacted
		}
		list[i] = arg
	}
	return list
}

// Changed says whether anybody set the value.
func (s Setting) Changed() bool {
	return slices.ContainsFunc(s.Origins, func(o Origin) bool { return o.Source != FromDefault })
}

// origin is all places of the value on one line, each once.
func (s Setting) origin() string {
	var names []string
	for _, o := range s.Origins {
		if name := o.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// WriteYAML writes settings as a configuration file that would have the same
// effect, each with its origin as a comment. Secrets are redacted.
func WriteYAML(w io.Writer, settings []Setting) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	category := ""
	for _, s := range settings {
		if s.Flag.Name == ConfigFlag {
			continue // a file cannot name itself
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: s.Flag.Name}
		if s.Flag.Category != category {
			category = s.Flag.Category
			key.HeadComment = category
		}
		node := &yaml.Node{}
		if err := node.Encode(s.Value); err != nil {
			return fmt.Errorf("showing %s: %w", s.Flag.Name, err)
		}
		comment := s.origin()
		if !s.Changed() && s.Flag.DefaultNote != "" {
			comment += ": " + s.Flag.DefaultNote
		}
		if node.Kind == yaml.SequenceNode && len(node.Content) > 0 {
			key.LineComment = comment
		} else {
			node.LineComment = comment
		}
		root.Content = append(root.Content, key, node)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return fmt.Errorf("showing the configuration: %w", err)
	}
	return encoder.Close()
}

// WriteJSON writes an object with a member per setting, which has its value
// and its origin. Secrets are redacted.
func WriteJSON(w io.Writer, settings []Setting) error {
	type shown struct {
		Value  any    `json:"value"`
		Origin string `json:"origin"`
	}
	all := map[string]shown{}
	for _, s := range settings {
		all[s.Flag.Name] = shown{s.Value, s.origin()}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}
