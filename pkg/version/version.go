// Package version holds what the build stamps into the binary. It imports
// nothing of ours; every package may import it.
package version

// Set by the linker (-X), see scripts/build.
var (
	// Version is Skiff's own version, semver without a leading v.
	Version = "0.1.0-dev"
	// Commit is the git commit of the build.
	Commit = "unknown"
	// Kubernetes is the embedded Kubernetes version, with a leading v.
	Kubernetes = "v1.36.4"
)

// Kubelet is the version that nodes and the API server report:
// Kubernetes' own, with Skiff's as semver build metadata.
func Kubelet() string { return Kubernetes + "+skiff" + Version }
