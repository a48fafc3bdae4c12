package framework

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// fetchTimeout bounds one request.
const fetchTimeout = 5 * time.Second

// Fetch is an HTTP request from the machine, which is outside of the cluster,
// on a connection of its own.
func Fetch(url string) (string, error) {
	client := http.Client{Timeout: fetchTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}
