package apilb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/skiff-k8s/skiff/pkg/internal/atomicfile"
)

// stored is the form of the file.
type stored struct {
	Servers []string `json:"servers"`
}

// readList reads the file. One that is not there is an empty list.
func readList(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, address := range s.Servers {
		if err := checkAddress(address); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return s.Servers, nil
}

// writeList keeps the list, in an order that does not change by itself.
func writeList(path string, list []string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(stored{slices.Sorted(slices.Values(list))}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = atomicfile.WriteIfChanged(path, append(data, '\n'), 0o644)
	return err
}

// valid leaves out addresses that are none, and repetitions.
func (b *Balancer) valid(list []string) []string {
	var out []string
	for _, address := range list {
		if err := checkAddress(address); err != nil {
			b.log.WithError(err).Warn("A server in the cluster's list can't be used")
			continue
		}
		if !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	return out
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || n == 0 {
		return fmt.Errorf("%q is no host:port", address)
	}
	return nil
}
