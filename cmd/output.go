package cmd

import (
	"encoding/json"
	"io"

	"sigs.k8s.io/yaml"
)

// printAs prints a value as JSON or YAML, or else the text for people.
func printAs(w io.Writer, format string, value any, table func() string) (err error) {
	var data []byte
	switch format {
	case "json":
		data, err = json.MarshalIndent(value, "", "  ")
		data = append(data, '\n')
	case "yaml":
		data, err = yaml.Marshal(value)
	default:
		data = []byte(table())
	}
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}
