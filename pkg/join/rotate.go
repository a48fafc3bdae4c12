package join

import (
	"context"
	"errors"
	"fmt"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// Rotate has a server replace the server token, or that of agents, which is what authorises it,
// and gives its answer, with the new one in full. An empty next has one made. server is a URL,
// and the token has to be a whole one, so that no other machine is told.
func Rotate(ctx context.Context, server string, old token.Token, next string, agent bool) (protocol.TokenAnswer, error) {
	host, err := hostPort(server)
	if err != nil {
		return protocol.TokenAnswer{}, err
	}
	if old.Hash() == "" || old.User() != token.UserServer {
		return protocol.TokenAnswer{}, errors.New("a whole server token is needed, K10<hash>::server:<password>: it is in /var/lib/skiff/server/token of a server")
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	unverified := newUnverified(Config{})
	defer unverified.close()
	offered, err := unverified.get(ctx, host, protocol.PathCACerts, maxCA)
	if err != nil {
		return protocol.TokenAnswer{}, err
	}
	ca, err := token.Pin(offered, old.Hash())
	if err != nil {
		return protocol.TokenAnswer{}, fmt.Errorf("the server %s is not to be trusted, nothing was sent to it: %w", host, err)
	}
	c, err := newClient(Config{}, ca, nil)
	if err != nil {
		return protocol.TokenAnswer{}, err
	}
	defer c.close()
	c.token = old
	var answer protocol.TokenAnswer
	err = c.post(ctx, host, protocol.PathToken, protocol.TokenRequest{NewToken: next, Agent: agent}, &answer)
	return answer, err
}
