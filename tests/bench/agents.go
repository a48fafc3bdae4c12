package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skiff-k8s/skiff/pkg/layout"
	"github.com/skiff-k8s/skiff/pkg/pki"
)

// hollowLabel marks the simulated nodes.
const hollowLabel = "bench.skiff/hollow"

// crowd is what the program in stock/hollow reads: nodes that it shall be.
type crowd struct {
	Server  string            `json:"server"`
	CA      []byte            `json:"ca"`
	Address string            `json:"address"`
	Labels  map[string]string `json:"labels"`
	Proxy   identity          `json:"proxy"`
	Nodes   []identity        `json:"nodes"`
}

// identity is a client's certificate, PEM.
type identity struct {
	Name string `json:"name"`
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

// agents are simulated nodes, in processes outside of the measured host.
type agents struct {
	s       system
	program string
	count   int
	running []*hollowProcess
	cancel  context.CancelCauseFunc
}

type hollowProcess struct {
	input io.Closer // it ends with this
	done  chan struct{}
}

// newAgents begins with none. The context ends when one of their processes
// does; its cause says why.
func newAgents(ctx context.Context, s system, o options) (context.Context, *agents) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &agents{s: s, program: filepath.Join(o.parts, "stock", "hollow"), cancel: cancel}
}

func agentName(i int) string { return fmt.Sprintf("hollow-%d", i) }

// add starts agents until there are n.
func (a *agents) add(ctx context.Context, n int) error {
	c, err := a.describe(ctx, n)
	if err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(a.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(a.program)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &hollowProcess{input: input, done: make(chan struct{})}
	a.running, a.count = append(a.running, p), n
	go func() {
		err := cmd.Wait()
		a.cancel(fmt.Errorf("the simulated agents: %w\n%s", errors.Join(errEnded, err), tail(a.log())))
		close(p.done)
	}()
	_, err = input.Write(data)
	return err
}

func (a *agents) log() string { return filepath.Join(a.s.Host().Directory(), "hollow.log") }

// describe gives the agents from a.count to n-1 their certificates.
func (a *agents) describe(ctx context.Context, n int) (crowd, error) {
	config, err := a.s.Config(ctx)
	if err != nil {
		return crowd{}, err
	}
	c := crowd{
		Server: config.Host, CA: config.CAData, Address: a.s.Host().Gateway().String(),
		Labels: map[string]string{hollowLabel: "true"},
	}
	if len(c.CA) == 0 {
		if c.CA, err = os.ReadFile(config.CAFile); err != nil {
			return c, err
		}
	}
	sign, err := signer(a.s)
	if err != nil {
		return c, err
	}
	if c.Proxy, err = sign(pkix.Name{CommonName: pki.ProxyUser}, ""); err != nil {
		return c, err
	}
	for i := a.count; i < n; i++ {
		name := agentName(i)
		id, err := sign(pkix.Name{CommonName: pki.NodeUserPrefix + name, Organization: []string{pki.NodeGroup}}, name)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, id)
	}
	return c, nil
}

// close ends the agents and waits for that.
func (a *agents) close() {
	a.cancel(nil)
	for _, p := range a.running {
		p.input.Close()
		<-p.done
	}
	a.running = nil
}

// signer issues client certificates with the CA of a running system, which
// both keep in the same place below their data directories.
func signer(s system) (func(subject pkix.Name, name string) (identity, error), error) {
	data := "/var/lib/skiff"
	if s.Name() == "stock" {
		data = stockData
	}
	files := pki.ServerFilesOf(layout.Layout{Data: data}).ClientCA
	ca, err := tls.LoadX509KeyPair(s.Host().Path(files.Cert), s.Host().Path(files.Key))
	if err != nil {
		return nil, fmt.Errorf("reading the CA for clients: %w", err)
	}
	return func(subject pkix.Name, name string) (identity, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return identity{}, err
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
		if err != nil {
			return identity{}, err
		}
		now := time.Now()
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			Subject: subject, SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, ca.Leaf, key.Public(), ca.PrivateKey)
		if err != nil {
			return identity{}, err
		}
		private, err := x509.MarshalECPrivateKey(key)
		return identity{
			Name: name, Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		}, err
	}, nil
}
