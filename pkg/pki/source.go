package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
)

// CertSource hands out the current serving certificate. It may be used by many
// goroutines while the Renewer replaces the certificate.
type CertSource struct {
	current atomic.Pointer[tls.Certificate]
}

// GetCertificate fits tls.Config.GetCertificate.
func (s *CertSource) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := s.current.Load()
	if cert == nil {
		return nil, errors.New("there is no serving certificate yet")
	}
	return cert, nil
}

func (s *CertSource) load(p pair) error {
	cert, err := tls.X509KeyPair(p.certPEM, p.keyPEM)
	if err != nil {
		return fmt.Errorf("loading the serving certificate: %w", err)
	}
	s.current.Store(&cert)
	return nil
}

// Names are the names and addresses that the current certificate is good for.
func (s *CertSource) Names() ([]string, []netip.Addr, error) {
	cert, err := s.GetCertificate(nil)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, nil, fmt.Errorf("reading the serving certificate: %w", err)
	}
	return leaf.DNSNames, addrs(leaf.IPAddresses), nil
}

// replace takes over the certificate of another source.
func (s *CertSource) replace(other *CertSource) {
	s.current.Store(other.current.Load())
}
