package ctr

import (
	"testing"

	"github.com/urfave/cli/v2"
)

func TestCtrLooksAtSkiffsContainerdUnlessToldOtherwise(t *testing.T) {
	for name, c := range map[string]struct {
		env, args          []string
		address, namespace string
	}{
		"by itself":       {nil, nil, "/run/skiff/containerd/containerd.sock", "k8s.io"},
		"with variables":  {[]string{"CONTAINERD_ADDRESS", "/x", "CONTAINERD_NAMESPACE", "y"}, nil, "/x", "y"},
		"with flags":      {nil, []string{"-a", "/x", "-n", "y"}, "/x", "y"},
		"with flags only": {[]string{"CONTAINERD_ADDRESS", "/w"}, []string{"-a", "/x"}, "/x", "k8s.io"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(c.env); i += 2 {
				t.Setenv(c.env[i], c.env[i+1])
			}
			ctr := New()
			var address, namespace string
			ctr.Commands = []*cli.Command{{Name: "look", Action: func(ctx *cli.Context) error {
				address, namespace = ctx.String("address"), ctx.String("namespace")
				return nil
			}}}
			if err := ctr.Run(append(append([]string{"ctr"}, c.args...), "look")); err != nil {
				t.Fatal(err)
			}
			if address != c.address || namespace != c.namespace {
				t.Errorf("looks at %s, %s; want %s, %s", address, namespace, c.address, c.namespace)
			}
		})
	}
}
