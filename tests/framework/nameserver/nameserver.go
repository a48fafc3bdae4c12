// Package nameserver is a small DNS server that answers from a table. A test
// host has it as its upstream, so that names outside of the cluster can be
// resolved without a query leaving the machine. It imports nothing of ours.
package nameserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Server answers A and AAAA queries from its table; other names do not exist.
// It is safe for concurrent use.
type Server struct {
	udp, tcp *dns.Server

	mu      sync.Mutex
	table   map[string][]netip.Addr
	queries map[string]int
}

// Listen starts a server on port 53 of an address.
func Listen(address netip.Addr) (*Server, error) {
	at := netip.AddrPortFrom(address, 53)
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listening for DNS queries: %w", err)
	}
	stream, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		packets.Close()
		return nil, fmt.Errorf("listening for DNS queries: %w", err)
	}
	return Serve(packets, stream), nil
}

// Serve starts a server on sockets which it closes in Close.
func Serve(packets net.PacketConn, stream net.Listener) *Server {
	s := &Server{table: map[string][]netip.Addr{}, queries: map[string]int{}}
	s.udp = &dns.Server{PacketConn: packets, Handler: s}
	s.tcp = &dns.Server{Listener: stream, Handler: s}
	for _, d := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		go func() { _ = d.ActivateAndServe() }()
		<-started
	}
	return s
}

// Set gives a name its addresses; none at all removes it.
func (s *Server) Set(name string, addresses ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table[canonical(name)] = addresses
}

// Queries counts the queries for a name until now.
func (s *Server) Queries(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries[canonical(name)]
}

// Close stops answering and closes the sockets.
func (s *Server) Close() error {
	return errors.Join(s.udp.Shutdown(), s.tcp.Shutdown())
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	reply := new(dns.Msg)
	reply.SetReply(q)
	reply.RecursionAvailable = true
	for _, question := range q.Question {
		answers, exists := s.answer(question)
		if !exists {
			reply.Rcode = dns.RcodeNameError
		}
		reply.Answer = append(reply.Answer, answers...)
	}
	_ = w.WriteMsg(reply)
}

func (s *Server) answer(q dns.Question) ([]dns.RR, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := canonical(q.Name)
	s.queries[name]++
	addresses := s.table[name]
	var answers []dns.RR
	for _, a := range addresses {
		header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: 5}
		switch {
		case a.Is4() && q.Qtype == dns.TypeA:
			header.Rrtype = dns.TypeA
			answers = append(answers, &dns.A{Hdr: header, A: a.AsSlice()})
		case a.Is6() && q.Qtype == dns.TypeAAAA:
			header.Rrtype = dns.TypeAAAA
			answers = append(answers, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	return answers, len(addresses) > 0
}

func canonical(name string) string { return strings.ToLower(dns.Fqdn(name)) }
