package config

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the reference page of all settings, docs/flags.md.
func WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString(markdownHead)
	category := ""
	for _, f := range Flags() {
		if f.Category != category {
			category = f.Category
			fmt.Fprintf(&b, "\n## %s\n\n| Flag and key | Of | Type | Default | Meaning |\n|---|---|---|---|---|\n", category)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", markdownName(f), f.For, f.Kind(), markdownDefault(f), cell(markdownUsage(f)))
	}
	b.WriteString(markdownForeign())
	_, err := io.WriteString(w, b.String())
	return err
}

const markdownHead = `<!-- Made from pkg/config by: go generate ./pkg/config. Do not edit. -->
# Settings of skiff server and skiff agent

Each setting has one name, which is

- a flag of ` + "`skiff server` or `skiff agent`: `--node-name edge1`" + `,
- a key of ` + "`/etc/skiff/config.yaml`: `node-name: edge1`" + `,
- an environment variable: ` + "`SKIFF_NODE_NAME=edge1`" + `.

Flags beat environment variables, those beat files, and files beat defaults.
` + "`skiff config show`" + ` prints what holds and where it was written, ` + "`skiff config check`" + `
lists everything that is wrong; both take ` + "`--agent`" + `. One file may serve all machines: an
agent passes over the settings of servers, with a warning. What the whole cluster
shares is set on the server, and agents learn it when they join.

A secret on the command line is taken out of the process list at once; a file or
` + "`SKIFF_TOKEN`" + ` keeps it better.

## Files

Files are read in this order: ` + "`config.yaml`, then `config.yaml.d/*.yaml`" + ` (and ` + "`*.yml`" + `)
in alphabetical order; names that begin with a dot are skipped. With ` + "`--config FILE`" + `
it is FILE, which then must exist, and ` + "`FILE.d`" + `.

- A later value of a key replaces an earlier one, lists whole.
- ` + "`key+:`" + ` appends to a list instead of replacing it.
- A list on the command line or in the environment replaces the files' list whole.
- A key without a value (` + "`node-label:`" + `) goes back to the default.
- A key that does not exist, or is there twice in a file, is an error.
- Paths in files and variables are absolute; on the command line they may be
  relative.

` + "```yaml" + `
# /etc/skiff/config.yaml
write-kubeconfig-mode: "0640"
tls-san:
  - k8s.example.com
kubelet-arg:
  - max-pods=200
` + "```" + `

` + "```yaml" + `
# /etc/skiff/config.yaml.d/10-labels.yaml
node-label:
  - disk=ssd
kubelet-arg+:
  - image-gc-high-threshold=80
` + "```" + `

Where a setting is a list, commas separate its items too, except in the
arguments of components (` + "`kubelet-arg`" + ` and its like), whose values may contain
commas: there one item is one argument, and in an environment variable each
stands on its own line. Arguments of components are written without leading
dashes; they win over those that Skiff sets. Feature gates, verbosity and
emulated version exist once per process: two components must not ask for
different ones.
`

func markdownName(f Flag) string {
	name := "`--" + f.Name + "`"
	if len(f.Name) == 1 {
		name = "`-" + f.Name + "`"
	}
	for _, alias := range f.Aliases {
		name += ", `-" + alias + "`"
	}
	return name
}

func markdownDefault(f Flag) string {
	switch {
	case f.Kind() == KindBool:
		return "`false`"
	case f.Default != "":
		return "`" + f.Default + "`"
	default:
		return cell(f.DefaultNote)
	}
}

func markdownUsage(f Flag) string {
	usage := f.Usage
	if len(f.Values) > 0 {
		usage += "; one of `" + strings.Join(f.Values, "`, `") + "`"
	}
	if len(f.EnvAlias) > 0 {
		usage += "; also `" + strings.Join(f.EnvAlias, "`, `") + "`"
	}
	return usage
}

// cell keeps a text inside its cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func markdownForeign() string {
	var accepted, refused []string
	for _, f := range ForeignFlags() {
		if f.Harmless != "" {
			accepted = append(accepted, "`"+f.Name+": "+f.Harmless+"`")
		} else {
			refused = append(refused, "`"+f.Name+"`")
		}
	}
	return "\n## Coming from k3s\n\n" +
		"A configuration of k3s may stay as it is where it asks for what Skiff does anyway. These are accepted\n" +
		"and have no effect: " + strings.Join(accepted, ", ") + ";\n`disable` with `" + strings.Join(absentParts(), "`, `") + "`.\n\n" +
		"Other values of these, and the following, are refused with a message, because leaving them out\n" +
		"silently would give another cluster than the one asked for: " + strings.Join(refused, ", ") + ".\n"
}
