// Command web is the program inside of the test image "web": an HTTP server
// whose behaviour tests steer from outside. With arguments it is a webhook or
// a scheduler instead. Only tests run it; it imports the standard library
// alone, so that the image stays small.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Print(err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return serve(ctx, &http.Server{Addr: ":8080", Handler: newApp()}, "", "")
	}
	switch {
	case args[0] == "webhook" && len(args) == 2:
		server := &http.Server{Addr: ":8443", Handler: http.HandlerFunc(validate)}
		return serve(ctx, server, filepath.Join(args[1], "tls.crt"), filepath.Join(args[1], "tls.key"))
	case args[0] == "aggregated" && len(args) == 2:
		server := &http.Server{
			Addr: ":8443", Handler: http.HandlerFunc(whoAsks), TLSConfig: &tls.Config{ClientAuth: tls.RequestClientCert},
		}
		return serve(ctx, server, filepath.Join(args[1], "tls.crt"), filepath.Join(args[1], "tls.key"))
	case args[0] == "env" && len(args) == 2: // the image has no shell
		fmt.Println(os.Getenv(args[1]))
		return nil
	case args[0] == "api" && len(args) == 2:
		return get(ctx, args[1])
	case args[0] == "scheduler" && len(args) == 2:
		return schedule(ctx, args[1])
	default:
		return fmt.Errorf("usage: web [webhook TLS-DIRECTORY | aggregated TLS-DIRECTORY | scheduler NAME | env NAME | api PATH]")
	}
}

func serve(ctx context.Context, s *http.Server, cert, key string) error {
	stopped := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stopped()
	log.Printf("listening on %s", s.Addr)
	var err error
	if cert == "" {
		err = s.ListenAndServe()
	} else {
		err = s.ListenAndServeTLS(cert, key)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// app is the steerable server. A handler returns what it answers.
type app struct {
	mu     sync.Mutex
	failed map[string]bool // probes that shall fail, by path
	held   [][]byte        // memory that was asked for
}

func newApp() http.Handler {
	a := &app{failed: map[string]bool{}}
	mux := http.NewServeMux()
	handlers := map[string]func(*http.Request) (string, error){
		"/{$}": func(*http.Request) (string, error) { return hostname() },
		"/client": func(r *http.Request) (string, error) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			return host, err
		},
		"/probe/": a.probe,
		"/fail/":  func(r *http.Request) (string, error) { return a.toggle(r, true) },
		"/mend/":  func(r *http.Request) (string, error) { return a.toggle(r, false) },
		"/alloc":  a.alloc,
		"/write":  write,
		"/read": func(r *http.Request) (string, error) {
			b, err := os.ReadFile(r.FormValue("path"))
			return string(b), err
		},
		"/env":     func(r *http.Request) (string, error) { return os.Getenv(r.FormValue("name")), nil },
		"/lookup":  lookup,
		"/fetch":   fetch,
		"/sum":     sum,
		"/exit":    exit,
		"/headers": func(r *http.Request) (string, error) { return fmt.Sprint(r.Header), nil },
	}
	for pattern, h := range handlers {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			body, err := h(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, body)
		})
	}
	return mux
}

func hostname() (string, error) {
	name, err := os.Hostname()
	return "hello from " + name + "\n", err
}

// probe answers /probe/NAME, unless /fail/NAME was called.
func (a *app) probe(r *http.Request) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name := filepath.Base(r.URL.Path); a.failed[name] {
		return "", fmt.Errorf("%s was told to fail", name)
	}
	return "ok", nil
}

func (a *app) toggle(r *http.Request, failed bool) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed[filepath.Base(r.URL.Path)] = failed
	return "ok", nil
}

// alloc holds ?mib= more MiB, and touches every page so that they count.
func (a *app) alloc(r *http.Request) (string, error) {
	n, err := strconv.Atoi(r.FormValue("mib"))
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for range n {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		a.held = append(a.held, block)
	}
	return fmt.Sprintf("holding %d MiB", len(a.held)), nil
}

// write puts ?text=, or ?mib= MiB of zeros, into the file ?path=.
func write(r *http.Request) (string, error) {
	f, err := os.Create(r.FormValue("path"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.WriteString(r.FormValue("text")); err != nil {
		return "", err
	}
	n, _ := strconv.Atoi(r.FormValue("mib"))
	zeros := make([]byte, 1<<20)
	for range n {
		if _, err := f.Write(zeros); err != nil {
			return "", err
		}
	}
	return "ok", f.Sync()
}

func lookup(r *http.Request) (string, error) {
	addresses, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
	return fmt.Sprint(addresses), err
}

// fetch gets ?url= from where this server runs.
func fetch(r *http.Request) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(r.FormValue("url"))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 400 {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// sum answers what was posted with its SHA-256, so that nothing gets lost
// unnoticed on the way.
func sum(r *http.Request) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r.Body)
	return hex.EncodeToString(h.Sum(nil)), err
}

func exit(r *http.Request) (string, error) {
	code, err := strconv.Atoi(r.FormValue("code"))
	if err != nil {
		return "", err
	}
	os.Exit(code)
	return "", nil
}
