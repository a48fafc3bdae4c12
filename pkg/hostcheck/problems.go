package hostcheck

import (
	"fmt"
	"strings"
)

// Problems is the list of what a host lacks, as one error.
type Problems []Finding

func (p Problems) Error() string {
	var b strings.Builder
	things := "1 thing is"
	if len(p) != 1 {
		things = fmt.Sprintf("%d things are", len(p))
	}
	fmt.Fprintf(&b, "this host is not ready for Skiff, %s missing:", things)
	for i, f := range p {
		fmt.Fprintf(&b, "\n%3d. %s", i+1, f.What)
		if f.Mend != "" {
			fmt.Fprintf(&b, "\n     to mend it: %s", f.Mend)
		}
	}
	return b.String()
}

func (f Finding) String() string {
	if f.Mend == "" {
		return f.What
	}
	return f.What + " (to mend it: " + f.Mend + ")"
}

// install is the command that installs a program with this host's package
// manager. pkg is Debian's name; names has others by os-release ID.
func (s *system) install(pkg string, names map[string]string) string {
	release, err := s.read("/etc/os-release")
	if err != nil {
		return "install the package " + pkg
	}
	ids := strings.Fields(osRelease(release, "ID") + " " + osRelease(release, "ID_LIKE"))
	managers := map[string]string{
		"debian": "apt-get install", "ubuntu": "apt-get install", "raspbian": "apt-get install",
		"fedora": "dnf install", "rhel": "dnf install", "centos": "dnf install",
		"suse": "zypper install", "opensuse": "zypper install", "sles": "zypper install",
		"alpine": "apk add", "arch": "pacman -S",
	}
	for _, id := range ids {
		if manager, ok := managers[id]; ok {
			if name, ok := names[id]; ok {
				pkg = name
			}
			return manager + " " + pkg
		}
	}
	return "install the package " + pkg
}

func osRelease(content, key string) string {
	for line := range strings.Lines(content) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}
