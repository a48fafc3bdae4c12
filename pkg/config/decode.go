package config

import (
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is one text with the place where it was written.
type value struct {
	text   string
	origin Origin
	path   string // key path in a file, "node-label[2]"
}

// decodeOne stores a text in a field of Server; a list grows by one item.
func decodeOne(field any, text string) (err error) {
	switch p := field.(type) {
	case *string:
		*p = text
	case *Secret:
		*p = Secret(text)
	case *bool:
		*p, err = parseBool(text)
	case *int:
		*p, err = parseInt(text)
	case *netip.Addr:
		*p, err = parseAddr(text)
	case *fs.FileMode:
		*p, err = parseMode(text)
	case *time.Duration:
		*p, err = parseDuration(text)
	case *[]string:
		*p = append(*p, text)
	case *[]netip.Addr:
		err = appendParsed(p, text, parseAddr)
	case *[]netip.Prefix:
		err = appendParsed(p, text, parsePrefix)
	case *map[string]string:
		name, v, _ := strings.Cut(text, "=")
		if *p == nil {
			*p = map[string]string{}
		}
		(*p)[name] = v
	}
	return err
}

func appendParsed[T any](list *[]T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err == nil {
		*list = append(*list, v)
	}
	return err
}

// encode is decode's reverse, for showing: a bool, an int, a string or a list
// of strings.
func encode(field any) any {
	switch p := field.(type) {
	case *string:
		return *p
	case *Secret:
		return p.Reveal()
	case *bool:
		return *p
	case *int:
		return *p
	case *netip.Addr:
		if !p.IsValid() {
			return ""
		}
		return p.String()
	case *fs.FileMode:
		return "0" + strconv.FormatUint(uint64(*p), 8)
	case *time.Duration:
		return p.String()
	case *[]string:
		return append([]string{}, *p...)
	case *[]netip.Addr:
		return texts(*p)
	case *[]netip.Prefix:
		return texts(*p)
	case *map[string]string:
		list := []string{}
		for name, v := range *p {
			list = append(list, name+"="+v)
		}
		slices.Sort(list)
		return list
	}
	return nil
}

func texts[T interface{ String() string }](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// parseBool also takes YAML 1.1's words, which k3s takes in its files.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "t", "1", "yes", "y", "on":
		return true, nil
	case "false", "f", "0", "no", "n", "off":
		return false, nil
	}
	return false, invalidf("write true or false", "%q is neither true nor false", text)
}

func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalidf("write digits only", "%q is not a whole number", text)
	}
	return n, nil
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, invalidf("write it like 500ms, 10s or 5m", "%q is not a duration", text)
	}
	return d, nil
}

func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, invalidf("write it like 192.0.2.10 or 2001:db8::10", "%q is not an IP address", text)
	}
	return addr, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, invalidf("write it like 10.42.0.0/16 or fd00:42::/56", "%q is not a CIDR", text)
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, invalidf("write "+masked.String(), "%q has address bits set beyond its prefix length", text)
	}
	return prefix, nil
}

// parseMode reads three or four octal digits, with or without Go's and YAML's
// 0o prefix.
func parseMode(text string) (fs.FileMode, error) {
	const fix = "write it in octal, like 0600 or 0640"
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "0o"), "0O")
	mode, err := strconv.ParseUint(digits, 8, 32)
	switch {
	case err != nil || len(digits) < 3 || len(digits) > 4 || mode > 0o777:
		return 0, invalidf(fix, "%q is not a file mode", text)
	case mode&0o400 == 0:
		return 0, invalidf(fix, "mode %s does not let the owner read the file", text)
	case mode&0o002 != 0:
		return 0, invalidf(fix, "mode %s lets everyone write the administrator's credentials", text)
	case mode&0o111 != 0:
		return 0, invalidf(fix, "mode %s makes a file executable that is no program", text)
	}
	return fs.FileMode(mode), nil
}
