package nshost

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/skiff-k8s/skiff/tests/framework/nameserver"
)

// ExternalName is a name outside of the cluster which the nameserver of a
// permanent host knows; it is the machine's own address on the host's network.
const ExternalName = "machine.example.test"

// NameSockets opens the sockets for Config.Names: they belong to the machine's
// network namespace although the init, which lives in another, serves them.
func NameSockets(address netip.Addr) ([]*os.File, error) {
	at := netip.AddrPortFrom(address, 53)
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listening for DNS queries: %w", err)
	}
	defer packets.Close()
	stream, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listening for DNS queries: %w", err)
	}
	defer stream.Close()
	first, err := packets.File()
	if err != nil {
		return nil, err
	}
	second, err := stream.File()
	if err != nil {
		first.Close()
		return nil, err
	}
	return []*os.File{first, second}, nil
}

// serveNames answers DNS queries on inherited sockets for as long as the init
// lives.
func serveNames(s spec, files []*os.File) (stop func(), err error) {
	if len(files) != 2 {
		return func() {}, nil
	}
	packets, err := net.FilePacketConn(files[0])
	if err != nil {
		return nil, fmt.Errorf("inheriting the DNS socket: %w", err)
	}
	stream, err := net.FileListener(files[1])
	if err != nil {
		return nil, fmt.Errorf("inheriting the DNS socket: %w", err)
	}
	for _, f := range files {
		f.Close()
	}
	server := nameserver.Serve(packets, stream)
	server.Set(ExternalName, s.Gateways...)
	return func() { _ = server.Close() }, nil
}
