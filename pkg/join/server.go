package join

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"github.com/skiff-k8s/skiff/pkg/protocol"
	"github.com/skiff-k8s/skiff/pkg/token"
)

// Server asks the servers of cfg to let this machine join them as another one.
// While none answers it waits, with a line in the log now and then, until ctx
// ends; a refusal is an error at once.
func Server(ctx context.Context, cfg Config, req protocol.ServerRequest, log *logrus.Entry) (protocol.ServerAnswer, error) {
	var answer protocol.ServerAnswer
	switch t := cfg.Token; {
	case t.Secret() == "":
		return answer, errors.New("a token is needed to join: read the cluster's on another server with sudo cat /var/lib/skiff/server/token, and give it by --token-file, SKIFF_TOKEN or --token")
	case t.Bootstrap() || t.User() == token.UserNode:
		return answer, errors.New("the token is for agents: a server joins with the server token, which is in /var/lib/skiff/server/token of the others")
	}
	cfg.Token = token.Password(cfg.Token.Hash(), token.UserServer, cfg.Token.Secret())
	j, err := newJoiner(cfg, log)
	if err != nil {
		return answer, err
	}
	req.Version = cfg.version()
	err = patiently(ctx, log, "server", func() error {
		for _, server := range j.servers {
			if answer, err = j.joinAsServer(ctx, server, req); err == nil {
				return nil
			}
		}
		return err
	})
	return answer, err
}

func (j *joiner) joinAsServer(ctx context.Context, server string, req protocol.ServerRequest) (protocol.ServerAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	ca, err := j.trust(ctx, server)
	if err != nil {
		return protocol.ServerAnswer{}, err
	}
	c, err := newClient(j.cfg, ca, nil)
	if err != nil {
		return protocol.ServerAnswer{}, err
	}
	defer c.close()
	c.token = j.cfg.Token
	var answer protocol.ServerAnswer
	return answer, c.post(ctx, server, protocol.PathServer, req, &answer)
}
