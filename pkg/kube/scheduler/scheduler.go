// Package scheduler runs the upstream scheduler inside the process. It is
// imported by the wiring only.
package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/configz"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	schedulerconfig "k8s.io/kubernetes/cmd/kube-scheduler/app/config"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	upstream "k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/profile"

	"github.com/skiff-k8s/skiff/pkg/component"
	"github.com/skiff-k8s/skiff/pkg/kube/flags"
)

// Config is what the scheduler needs to know.
type Config struct {
	// ExtraArgs are the user's, "name=value", applied last; config=FILE
	// brings profiles and plugins of the user's.
	ExtraArgs []string
	Pprof     bool
}

type sched struct {
	cfg    Config
	client *rest.Config
	log    *logrus.Entry
}

// New makes the component. It is ready when its caches are filled and it
// schedules. client acts as system:kube-scheduler.
func New(cfg Config, client *rest.Config, log *logrus.Entry) component.Component {
	return &sched{cfg: cfg, client: client, log: log}
}

// Name implements component.Component.
func (s *sched) Name() string { return "scheduler" }

// Run implements component.Component.
func (s *sched) Run(ctx context.Context, ready func()) error {
	c, err := completeConfig(ctx, s.cfg, s.client)
	if err != nil {
		return err
	}
	core, err := build(ctx, c)
	if err != nil {
		return err
	}
	go func() {
		if core.WaitForHandlersSync(ctx) == nil {
			ready()
		}
	}()
	// Upstream registers its configuration for the whole process; another run,
	// after a lost lease, does so again.
	defer configz.Delete("componentconfig")
	// Without leader election upstream reports the regular end as an error.
	if err := app.Run(ctx, c, core); ctx.Err() == nil {
		return errors.Join(errors.New("the scheduler ended by itself"), err)
	}
	return nil
}

// completeConfig turns Config into upstream's, with in-memory clients in place
// of those that upstream would make from a kubeconfig.
func completeConfig(ctx context.Context, cfg Config, client *rest.Config) (*schedulerconfig.CompletedConfig, error) {
	o := options.NewOptions()
	o.Master = client.Host // only to keep upstream from looking for a kubeconfig
	o.SecureServing.BindPort = 0
	var err error
	if o.ComponentConfig, err = latest.Default(); err != nil {
		return nil, fmt.Errorf("the scheduler's defaults: %w", err)
	}
	o.ComponentConfig.EnableProfiling = cfg.Pprof
	if err := flags.Parse(flags.NewSet("kube-scheduler", o.Flags.FlagSets), cfg.ExtraArgs); err != nil {
		return nil, fmt.Errorf("kube-scheduler-arg: %w", err)
	}
	if errs := o.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("the scheduler's options: %w", utilerrors.NewAggregate(errs))
	}
	c, err := o.Config(ctx)
	if err != nil {
		return nil, fmt.Errorf("the scheduler's options: %w", err)
	}
	if err := connect(ctx, c, client); err != nil {
		return nil, err
	}
	completed := c.Complete()
	return &completed, nil
}

func connect(ctx context.Context, c *schedulerconfig.Config, client *rest.Config) error {
	// A configuration file of the user's turns leader election on unless it
	// says otherwise; one server has nobody to elect against.
	c.ComponentConfig.LeaderElection.LeaderElect = false
	c.LeaderElection = nil
	c.KubeConfig = client
	cs, err := kubernetes.NewForConfig(client)
	if err != nil {
		return fmt.Errorf("the scheduler's client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(client)
	if err != nil {
		return fmt.Errorf("the scheduler's dynamic client: %w", err)
	}
	c.Client = cs
	c.EventBroadcaster = events.NewEventBroadcasterAdapterWithContext(ctx, cs)
	c.InformerFactory = upstream.NewInformerFactory(cs, 0)
	c.DynInformerFactory = dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 0, corev1.NamespaceAll, nil)
	return nil
}

func build(ctx context.Context, c *schedulerconfig.CompletedConfig) (*upstream.Scheduler, error) {
	cc := c.ComponentConfig
	s, err := upstream.New(ctx, c.Client, c.InformerFactory, c.DynInformerFactory,
		recorderFactory(c),
		upstream.WithComponentConfigVersion(cc.TypeMeta.APIVersion),
		upstream.WithKubeConfig(c.KubeConfig),
		upstream.WithProfiles(cc.Profiles...),
		upstream.WithPercentageOfNodesToScore(cc.PercentageOfNodesToScore),
		upstream.WithPodMaxBackoffSeconds(cc.PodMaxBackoffSeconds),
		upstream.WithPodInitialBackoffSeconds(cc.PodInitialBackoffSeconds),
		upstream.WithPodMaxInUnschedulablePodsDuration(c.PodMaxInUnschedulablePodsDuration),
		upstream.WithExtenders(cc.Extenders...),
		upstream.WithParallelism(cc.Parallelism),
	)
	if err != nil {
		return nil, fmt.Errorf("building the scheduler: %w", err)
	}
	return s, nil
}

// recorderFactory gives each profile an event recorder of its own name.
func recorderFactory(c *schedulerconfig.CompletedConfig) profile.RecorderFactory {
	return func(name string) events.EventRecorderLogger { return c.EventBroadcaster.NewRecorder(name) }
}
