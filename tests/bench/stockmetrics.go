package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func (s *stock) ServeWith(args ...string) {
	s.args = nil
	for _, arg := range args {
		s.args = append(s.args, "--"+arg)
	}
}

// Metrics joins the API server's and etcd's.
func (s *stock) Metrics(ctx context.Context) (string, error) {
	api, err := apiMetrics(ctx, s.admin)
	if err != nil {
		return "", err
	}
	etcd, err := s.etcdMetrics(ctx)
	return api + etcd, err
}

// etcdMetrics asks on the port for clients, with the API server's certificate.
func (s *stock) etcdMetrics(ctx context.Context) (string, error) {
	pair, err := tls.LoadX509KeyPair(s.host.Path(stockEtc+"/apiserver-etcd-client.crt"), s.host.Path(stockEtc+"/apiserver-etcd-client.key"))
	if err != nil {
		return "", err
	}
	ca, err := os.ReadFile(s.host.Path(stockFiles().ServerCA.Cert))
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return "", errors.New("there is no certificate in the CA's file")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}}
	defer transport.CloseIdleConnections()
	url := "https://" + net.JoinHostPort(s.host.Address().String(), "2379") + "/metrics"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return string(text), err
}
