package apiserver

import (
	"context"
	"fmt"
	"net"
	"strconv"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/controlplane/reconcilers"

	"github.com/skiff-k8s/skiff/pkg/kube/flags"
)

// completeOptions turns Config into upstream's options, parses the user's
// arguments over them with upstream's own flags, and validates the result.
func completeOptions(ctx context.Context, cfg Config) (options.CompletedOptions, error) {
	o := options.NewServerRunOptions()
	// Registering flags may reset options to fixed defaults, so it comes first.
	sets := o.Flags()
	fs := flags.NewSet("kube-apiserver", sets.FlagSets)
	if err := setDefaults(o, cfg); err != nil {
		return options.CompletedOptions{}, err
	}
	if err := flags.Parse(fs, cfg.ExtraArgs); err != nil {
		return options.CompletedOptions{}, fmt.Errorf("kube-apiserver-arg: %w", err)
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return options.CompletedOptions{}, fmt.Errorf("completing the API server's options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return options.CompletedOptions{}, fmt.Errorf("the API server's options: %w", utilerrors.NewAggregate(errs))
	}
	return completed, nil
}

func setDefaults(o *options.ServerRunOptions, cfg Config) error {
	o.AllowPrivileged = true
	o.GenericServerRunOptions.AdvertiseAddress = cfg.AdvertiseAddress.AsSlice()
	o.GenericServerRunOptions.ExternalHost = net.JoinHostPort(cfg.AdvertiseAddress.String(), strconv.Itoa(cfg.AdvertisePort))
	o.Features.EnableProfiling = cfg.Pprof
	o.EnableLogsHandler = false // would show the host's /var/log to whoever may read nodes

	o.SecureServing.Listener = cfg.Listener
	o.SecureServing.BindPort = cfg.AdvertisePort
	if a, ok := cfg.Listener.Addr().(*net.TCPAddr); ok {
		o.SecureServing.BindAddress, o.SecureServing.BindPort = a.IP, a.Port
	}
	o.SecureServing.ServerCert.CertKey.CertFile = cfg.ServingCert
	o.SecureServing.ServerCert.CertKey.KeyFile = cfg.ServingKey

	o.ServiceClusterIPRanges = flags.Prefixes(cfg.ServiceCIDRs)
	r, err := utilnet.ParsePortRange(cfg.NodePortRange)
	if err != nil {
		return fmt.Errorf("service-node-port-range: %w", err)
	}
	o.ServiceNodePortRange = *r
	setAccess(o, cfg)
	setStorage(o, cfg)
	return nil
}

func setAccess(o *options.ServerRunOptions, cfg Config) {
	o.Authentication.ClientCert.ClientCA = cfg.ClientCA
	rh := o.Authentication.RequestHeader
	rh.ClientCAFile = cfg.RequestHeaderCA
	rh.AllowedNames = []string{"system:auth-proxy"}
	rh.UsernameHeaders = []string{"X-Remote-User"}
	rh.GroupHeaders = []string{"X-Remote-Group"}
	rh.ExtraHeaderPrefixes = []string{"X-Remote-Extra-"}
	o.ProxyClientCertFile, o.ProxyClientKeyFile = cfg.ProxyClientCert, cfg.ProxyClientKey
	o.Authentication.BootstrapToken.Enable = true

	sa := o.Authentication.ServiceAccounts
	sa.Issuers = []string{"https://kubernetes.default.svc." + cfg.ClusterDomain}
	sa.KeyFiles = []string{cfg.ServiceAccountKey}
	o.ServiceAccountSigningKeyFile = cfg.ServiceAccountKey

	o.Authorization.Modes = []string{"Node", "RBAC"}
	o.Admission.GenericAdmission.EnablePlugins = []string{"NodeRestriction"}

	o.KubeletConfig.TLSClientConfig.CAFile = cfg.KubeletCA
	o.KubeletConfig.TLSClientConfig.CertFile = cfg.KubeletClientCert
	o.KubeletConfig.TLSClientConfig.KeyFile = cfg.KubeletClientKey
	// Addresses first: node names need not resolve anywhere.
	o.KubeletConfig.PreferredAddressTypes = []string{"InternalIP", "ExternalIP", "Hostname"}
}

func setStorage(o *options.ServerRunOptions, cfg Config) {
	t := &o.Etcd.StorageConfig.Transport
	t.ServerList = cfg.Etcd.Endpoints
	t.TrustedCAFile, t.CertFile, t.KeyFile = cfg.Etcd.CA, cfg.Etcd.Cert, cfg.Etcd.Key
	// The size of the database is watched where it lives, not polled from here.
	o.Etcd.StorageConfig.DBMetricPollInterval = 0
	if cfg.Single {
		// Leases would be renewed in the datastore every ten seconds only
		// to tell this server from others that do not exist.
		o.EndpointReconcilerType = string(reconcilers.MasterCountReconcilerType)
	}
}
