// Command hello is the sample app that `make up` deploys: a web server that
// says who answers.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	started := time.Now()
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "Hello from pod %s on node %s, running for %v.\n",
				os.Getenv("POD_NAME"), os.Getenv("NODE_NAME"), time.Since(started).Round(time.Second))
		}),
	}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	os.Exit(1)
}
