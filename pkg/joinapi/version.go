package joinapi

import (
	"fmt"
	"net/http"

	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/version"
)

// maxSkew is how many minor versions a kubelet may be behind its API server:
// upstream's rule.
const maxSkew = 3

// checkVersion holds an agent's Kubernetes version against this server's.
func checkVersion(agent string) error { return checkSkew(agent, version.Kubernetes) }

func checkSkew(agent, server string) error {
	a, err := utilversion.ParseSemantic(agent)
	if err != nil {
		return refuse(http.StatusBadRequest, protocol.ReasonRequest, "the request does not say which Kubernetes version the agent has")
	}
	s := utilversion.MustParseSemantic(server)
	behind := int(s.Minor()) - int(a.Minor())
	mend := ""
	switch {
	case a.Major() != s.Major():
		mend = "install the same version on both"
	case behind < 0:
		mend = "an agent must not be newer than its server: upgrade the servers first"
	case behind > maxSkew:
		mend = fmt.Sprintf("an agent may be at most %d minor versions older: upgrade the agent", maxSkew)
	default:
		return nil
	}
	return refuse(http.StatusConflict, protocol.ReasonVersion,
		fmt.Sprintf("the agent has Kubernetes v%d.%d, the server v%d.%d; %s", a.Major(), a.Minor(), s.Major(), s.Minor(), mend))
}

// checkServers holds the versions of two servers against each other: upstream
// lets them be one minor version apart, for the time of an upgrade.
func checkServers(one, other string) error {
	a, err := utilversion.ParseSemantic(one)
	if err != nil {
		return refuse(http.StatusBadRequest, protocol.ReasonRequest, "the request does not say which Kubernetes version the server has")
	}
	b := utilversion.MustParseSemantic(other)
	apart := int(a.Minor()) - int(b.Minor())
	if a.Major() == b.Major() && -1 <= apart && apart <= 1 {
		return nil
	}
	return refuse(http.StatusConflict, protocol.ReasonVersion,
		fmt.Sprintf("the new server has Kubernetes v%d.%d, this one v%d.%d: servers may be one minor version apart; install the same version on both", a.Major(), a.Minor(), b.Major(), b.Minor()))
}
