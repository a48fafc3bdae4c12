package cmd

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"

	"github.com/skiff-k8s/skiff/pkg/version"
)

// versions is what `skiff version` tells.
type versions struct {
	Skiff      string `json:"skiff"`
	Commit     string `json:"commit"`
	Kubernetes string `json:"kubernetes"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	// Modules has the versions of what is inside, by short name.
	Modules map[string]string `json:"modules"`
}

// modules are the parts whose versions users ask for, in the order shown.
func modules() [][2]string {
	return [][2]string{
		{"containerd", "github.com/containerd/containerd/v2"},
		{"kine", "github.com/k3s-io/kine"},
		{"sqlite", "modernc.org/sqlite"},
		{"coredns", "github.com/coredns/coredns"},
		{"flannel", "github.com/flannel-io/flannel"},
	}
}

func currentVersions() versions {
	v := versions{
		Skiff: version.Version, Commit: version.Commit, Kubernetes: version.Kubernetes,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	built := map[string]string{}
	for _, m := range info.Deps {
		built[m.Path] = m.Version
		if m.Replace != nil {
			built[m.Path] = m.Replace.Version
		}
	}
	for _, m := range modules() {
		if found := built[m[1]]; found != "" {
			v.Modules[m[0]] = found
		}
	}
	return v
}

func (a *application) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Category: categoryTools,
		Usage:     "Show the versions of Skiff and what is inside",
		UsageText: "skiff version [-o json|yaml]",
		Flags:     []cli.Flag{outputFlag("json, yaml")},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return noArguments("skiff version", c.Args().First())
			}
			return a.printVersion(c.String("output"))
		},
	}
}

func (a *application) printVersion(format string) (err error) {
	v := currentVersions()
	var data []byte
	switch format {
	case "":
		data = []byte(v.text())
	case "json":
		data, err = json.MarshalIndent(v, "", "  ")
		data = append(data, '\n')
	case "yaml":
		data, err = yaml.Marshal(v)
	default:
		return unknownFormat("skiff version", format, "json, yaml")
	}
	if err == nil {
		_, err = a.Stdout.Write(data)
	}
	return err
}

func (v versions) text() string {
	text := fmt.Sprintf("skiff      v%s (commit %s, %s)\nkubernetes %s\ngo         %s\n", v.Skiff, v.Commit, v.Platform, v.Kubernetes, v.Go)
	for _, m := range modules() {
		if found := v.Modules[m[0]]; found != "" {
			text += fmt.Sprintf("%-10s %s\n", m[0], found)
		}
	}
	return text
}
