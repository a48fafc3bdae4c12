package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shared are the settings that all servers of a cluster have to have the same,
// by their names: with others a server would hand out other addresses, answer
// for other names or undo what the others do.
func (s Server) Shared() map[string]string {
	n := s.Network
	disabled := slices.Sorted(slices.Values(s.Disable))
	return map[string]string{
		"cluster-cidr":             strings.Join(texts(n.ClusterCIDRs), ","),
		"service-cidr":             strings.Join(texts(n.ServiceCIDRs), ","),
		"cluster-dns":              strings.Join(texts(n.ClusterDNS), ","),
		"cluster-domain":           n.ClusterDomain,
		"service-node-port-range":  n.NodePortRange,
		"link-local-dns":           n.LinkLocalDNS.String(),
		"flannel-backend":          n.FlannelBackend,
		"flannel-ipv6-masq":        strconv.FormatBool(n.FlannelIPv6Masq),
		"flannel-external-ip":      strconv.FormatBool(n.FlannelExternal),
		"egress-selector-mode":     n.EgressSelector,
		"disable":                  strings.Join(slices.Compact(disabled), ","),
		"disable-kube-proxy":       strconv.FormatBool(s.DisableKubeProxy),
		"disable-cloud-controller": strconv.FormatBool(s.DisableCloudController),
		"disable-network-policy":   strconv.FormatBool(n.DisableNetPolicy),
		"secrets-encryption":       strconv.FormatBool(s.Encryption.Enabled),
	}
}

// Differing says which settings of another server are not as they are here,
// one line for each, in the order of their names. Settings that only one of
// them knows are of another version of Skiff and are left out.
func Differing(here, there map[string]string) []string {
	var lines []string
	for name, text := range here {
		if other, known := there[name]; known && other != text {
			lines = append(lines, fmt.Sprintf("%s is %q there and %q here", name, other, text))
		}
	}
	slices.Sort(lines)
	return lines
}
