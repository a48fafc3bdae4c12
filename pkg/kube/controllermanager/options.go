package controllermanager

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/config"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"

	"github.com/skiff-k8s/skiff/pkg/kube/flags"
)

// completeConfig turns Config into upstream's options, parses the user's
// arguments over them and puts in-memory clients in place of those that
// upstream would make from a kubeconfig.
func completeConfig(ctx context.Context, cfg Config, client ClientFor) (*config.CompletedConfig, error) {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("the controller manager's options: %w", err)
	}
	all, off, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	// Registering flags resets some options to fixed defaults, so it comes first.
	sets := o.Flags(all, off, aliases)
	fs := flags.NewSet("kube-controller-manager", sets.FlagSets)
	setDefaults(o, cfg)
	if err := flags.Parse(fs, cfg.ExtraArgs); err != nil {
		return nil, fmt.Errorf("kube-controller-manager-arg: %w", err)
	}
	c, err := o.Config(ctx, all, off, aliases)
	if err != nil {
		return nil, fmt.Errorf("the controller manager's options: %w", err)
	}
	c.Kubeconfig = client(&user.DefaultInfo{Name: user.KubeControllerManager, Groups: []string{user.AllAuthenticated}})
	c.Client, err = kubernetes.NewForConfig(rest.AddUserAgent(rest.CopyConfig(c.Kubeconfig), "kube-controller-manager"))
	if err != nil {
		return nil, fmt.Errorf("the controller manager's client: %w", err)
	}
	return c.Complete(), nil
}

func setDefaults(o *options.KubeControllerManagerOptions, cfg Config) {
	o.Master = "https://kubernetes.default.svc" // only to keep upstream from looking for a kubeconfig
	o.SecureServing.BindPort = 0
	o.Generic.LeaderElection.LeaderElect = false
	o.Generic.Debugging.EnableProfiling = cfg.Pprof
	// Removes bootstrap tokens that have expired; upstream leaves it out.
	o.Generic.Controllers = []string{"*", names.TokenCleanerController}
	o.ControllerShutdownTimeout = stopTimeout

	o.KubeCloudShared.AllocateNodeCIDRs = true
	o.KubeCloudShared.ClusterCIDR = flags.Prefixes(cfg.ClusterCIDRs)
	o.KubeCloudShared.ConfigureCloudRoutes = false
	o.KubeCloudShared.UseServiceAccountCredentials = true
	o.NodeIPAMController.ServiceCIDR = flags.Prefixes(cfg.ServiceCIDRs)

	o.SAController.ServiceAccountKeyFile = cfg.ServiceAccountKey
	o.SAController.RootCAFile = cfg.ServerCA

	// Upstream would make its default directory in /usr.
	o.PersistentVolumeBinderController.VolumeConfiguration.FlexVolumePluginDir = cfg.VolumePluginDir

	s := o.CSRSigningController
	s.KubeletClientSignerConfiguration.CertFile, s.KubeletClientSignerConfiguration.KeyFile = cfg.ClientCA, cfg.ClientCAKey
	s.KubeAPIServerClientSignerConfiguration.CertFile, s.KubeAPIServerClientSignerConfiguration.KeyFile = cfg.ClientCA, cfg.ClientCAKey
	s.KubeletServingSignerConfiguration.CertFile, s.KubeletServingSignerConfiguration.KeyFile = cfg.ServingCA, cfg.ServingCAKey
	s.LegacyUnknownSignerConfiguration.CertFile, s.LegacyUnknownSignerConfiguration.KeyFile = cfg.ClientCA, cfg.ClientCAKey
}
