package controllermanager

import (
	"context"
	"fmt"
	"os"

	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	serviceaccountcontroller "k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// tokensController fills Secrets of type service-account-token. Upstream's
// constructor of it is reachable only through its own Run.
type tokensController struct {
	run     *serviceaccountcontroller.TokensController
	workers int
}

// Name implements app.Controller.
func (tokensController) Name() string { return names.ServiceAccountTokenController }

// Run implements app.Controller.
func (t tokensController) Run(ctx context.Context) { t.run.Run(ctx, t.workers) }

func newTokensController(ctx context.Context, cc app.ControllerContext, root rootClients) (app.Controller, error) {
	cfg := cc.ComponentConfig.SAController
	key, err := keyutil.PrivateKeyFromFile(cfg.ServiceAccountKeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the service-account key %s: %w", cfg.ServiceAccountKeyFile, err)
	}
	ca, err := os.ReadFile(cfg.RootCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the server CA: %w", err)
	}
	generator, err := serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key)
	if err != nil {
		return nil, fmt.Errorf("preparing to sign service-account tokens: %w", err)
	}
	client, err := newClient(root, "tokens-controller")
	if err != nil {
		return nil, err
	}
	core := cc.InformerFactory.Core().V1()
	c, err := serviceaccountcontroller.NewTokensController(klog.FromContext(ctx), core.ServiceAccounts(), core.Secrets(), client,
		serviceaccountcontroller.TokensControllerOptions{TokenGenerator: generator, RootCA: ca})
	if err != nil {
		return nil, fmt.Errorf("building the tokens controller: %w", err)
	}
	return tokensController{run: c, workers: int(cfg.ConcurrentSATokenSyncs)}, nil
}
