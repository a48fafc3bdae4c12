// Package ctr is containerd's client as `skiff ctr`. Only main imports it.
package ctr

import (
	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/urfave/cli/v2"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// kubernetesNamespace is where containerd's CRI plugin keeps everything.
const kubernetesNamespace = "k8s.io"

// New is containerd's ctr, which looks at Skiff's containerd and at the
// containers of Kubernetes when neither flags nor CONTAINERD_ADDRESS and
// CONTAINERD_NAMESPACE say otherwise.
func New() *cli.App {
	ctr := app.New()
	for _, f := range ctr.Flags {
		if s, ok := f.(*cli.StringFlag); ok && s.Name == "address" {
			s.Value = layout.Default().ContainerdSocket()
		} else if ok && s.Name == "namespace" {
			s.Value = kubernetesNamespace
		}
	}
	return ctr
}
