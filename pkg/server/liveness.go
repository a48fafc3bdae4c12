package server

import (
	"context"
	"fmt"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// liveness is what the watchdog asks, in memory: the API server's /livez, and
// with it the datastore. A component that fails ends the process by itself; what
// this notices is one that hangs. A datastore that needs other machines is left
// out: while they are away this process is no better after a restart.
func liveness(c *rest.Config, remote bool) (func(context.Context) error, error) {
	client, err := rest.UnversionedRESTClientFor(withoutCodec(c))
	if err != nil {
		return nil, fmt.Errorf("making the watchdog's client: %w", err)
	}
	return func(ctx context.Context) error {
		request := client.Get().AbsPath("/livez").MaxRetries(0)
		if remote {
			request = request.Param("exclude", "etcd")
		}
		if err := request.Do(ctx).Error(); err != nil {
			return fmt.Errorf("asking the API server's /livez: %w", err)
		}
		return nil
	}, nil
}

// withoutCodec completes a configuration for requests without API objects.
func withoutCodec(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return c
}
