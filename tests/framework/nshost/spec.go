package nshost

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
)

// DefaultBase is where hosts live: /var/tmp is on a disk everywhere, which
// /tmp is not.
const DefaultBase = "/var/tmp/skiff-hosts"

// Base is the directory that SKIFF_TEST_DIR names, or the default.
func Base() string {
	if dir := os.Getenv("SKIFF_TEST_DIR"); dir != "" {
		return dir
	}
	return DefaultBase
}

// Bind makes a file or directory of the machine visible inside a host.
type Bind struct {
	Source   string // absolute path on the machine
	Target   string // absolute path inside
	ReadOnly bool
}

// spec is what the init needs to know; it is written to the host's directory
// and also read back by Load.
type spec struct {
	ID         string
	Hostname   string
	Dir        string
	Bridge     string
	Link       string // the machine's end of the veth pair
	Binds      []Bind
	Addresses  []netip.Prefix // one of each family, as are the gateways
	Gateways   []netip.Addr
	Cgroups    []hierarchy
	Lifeline   bool // end when the creator ends
	Nameserver bool // serve DNS on the sockets that were inherited
	PID        int  // of the init, in the machine's pid namespace
}

func (s spec) root() string    { return filepath.Join(s.Dir, "root") }
func (s spec) control() string { return filepath.Join(s.Dir, "control.sock") }
func (s spec) file() string    { return filepath.Join(s.Dir, "host.json") }

func (s spec) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	temporary := s.file() + ".new"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.file())
}

func loadSpec(dir string) (spec, error) {
	var s spec
	data, err := os.ReadFile(filepath.Join(dir, "host.json"))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(data, &s)
}
