package dns

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portOwner names the programs that listen on a port, TCP or UDP, in this
// network namespace: "dnsmasq (process 812)".
func portOwner(port int) string {
	inodes := map[string]bool{}
	for _, table := range []string{"udp", "udp6", "tcp", "tcp6"} {
		listenersIn(filepath.Join("/proc/thread-self/net", table), port, inodes)
	}
	var owners []string
	sockets, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	seen := map[string]bool{}
	for _, fd := range sockets {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		owners = append(owners, fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid))
	}
	if len(owners) == 0 {
		return "another program"
	}
	return strings.Join(owners, ", ")
}

// listenersIn collects the inodes of listening sockets from a /proc/net table,
// whose second column is address:port in hexadecimal, fourth the state and
// tenth the inode.
func listenersIn(table string, port int, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	const tcpListen, udpUnconnected = "0A", "07"
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) < 10 || fields[3] != tcpListen && fields[3] != udpUnconnected {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil && int(p) == port {
			inodes[fields[9]] = true
		}
	}
}
