package hostcheck

import (
	"strings"
)

// mountPoint is one line of /proc/self/mountinfo.
type mountPoint struct {
	path    string
	fstype  string
	options []string // of the mount
	super   []string // of the file system
	shared  bool
}

func (s *system) mounts() ([]mountPoint, error) {
	content, err := s.read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []mountPoint
	for line := range strings.Lines(content) {
		if m, ok := parseMount(line); ok {
			list = append(list, m)
		}
	}
	return list, nil
}

// parseMount reads a line in the form that proc(5) describes: six fixed
// fields, any number of optional ones, a hyphen, and three more.
func parseMount(line string) (mountPoint, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	fields, rest := strings.Fields(head), strings.Fields(tail)
	if !ok || len(fields) < 6 || len(rest) < 3 {
		return mountPoint{}, false
	}
	m := mountPoint{
		path:    unescape(fields[4]),
		options: strings.Split(fields[5], ","),
		fstype:  rest[0],
		super:   strings.Split(rest[2], ","),
	}
	for _, optional := range fields[6:] {
		if strings.HasPrefix(optional, "shared:") {
			m.shared = true
		}
	}
	return m, true
}

func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// mountOf is the mount that path lies on: the last of those with the longest
// path, because a later mount hides an earlier one.
func mountOf(list []mountPoint, path string) (found mountPoint, ok bool) {
	for _, m := range list {
		below := path == m.path || m.path == "/" || strings.HasPrefix(path, m.path+"/")
		if below && len(m.path) >= len(found.path) {
			found, ok = m, true
		}
	}
	return found, ok
}
