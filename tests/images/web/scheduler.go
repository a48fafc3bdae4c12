package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
)

// apiClient talks to the API server as a pod does: with the files of its
// service account and the address in its environment.
type apiClient struct {
	base, token string
	http        http.Client
}

func inCluster() (*apiClient, error) {
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount"
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the service account's CA is no certificate")
	}
	host := os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT")
	return &apiClient{
		base: "https://" + host, token: string(token),
		http: http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	}, nil
}

func (c *apiClient) do(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		defer response.Body.Close()
		message, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, message)
	}
	return response.Body, nil
}

// get prints what the API says at a path.
func get(ctx context.Context, path string) error {
	c, err := inCluster()
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(os.Stdout, body)
	return err
}

type object struct {
	Metadata struct{ Name, Namespace string }
}

// schedule is a scheduler of the simplest kind: it binds every pod that names
// it to the first node there is.
func schedule(ctx context.Context, name string) error {
	c, err := inCluster()
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodGet, "/api/v1/nodes", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	var nodes struct{ Items []object }
	if err := json.NewDecoder(body).Decode(&nodes); err != nil {
		return err
	}
	if len(nodes.Items) == 0 {
		return errors.New("there is no node")
	}
	selector := url.QueryEscape("spec.nodeName=,spec.schedulerName=" + name)
	for ctx.Err() == nil {
		if err := c.watch(ctx, "/api/v1/pods?watch=true&fieldSelector="+selector, nodes.Items[0].Metadata.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *apiClient) watch(ctx context.Context, path, node string) error {
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	events := json.NewDecoder(body)
	for {
		var e struct {
			Type   string
			Object object
		}
		if err := events.Decode(&e); err != nil {
			return nil // the server ends watches now and then
		}
		if e.Type != "ADDED" {
			continue
		}
		if err := c.bind(ctx, e.Object, node); err != nil {
			log.Print(err)
		}
	}
}

func (c *apiClient) bind(ctx context.Context, pod object, node string) error {
	m := pod.Metadata
	body, err := c.do(ctx, http.MethodPost, "/api/v1/namespaces/"+m.Namespace+"/pods/"+m.Name+"/binding", map[string]any{
		"apiVersion": "v1", "kind": "Binding",
		"metadata": map[string]string{"name": m.Name, "namespace": m.Namespace},
		"target":   map[string]string{"apiVersion": "v1", "kind": "Node", "name": node},
	})
	if err != nil {
		return err
	}
	log.Printf("bound %s/%s to %s", m.Namespace, m.Name, node)
	return body.Close()
}
