package snapshot

import (
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
)

// web is a workload that stays on agents.
const web = `
apiVersion: v1
kind: Secret
metadata: {name: precious}
stringData: {word: xyzzy}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {work: "yes"}
      tolerations: [{operator: Exists}]
      containers: [{name: main, image: skiff/web:test, readinessProbe: {httpGet: {path: /probe/ready, port: 8080}, periodSeconds: 1}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: roams}
spec:
  selector: {matchLabels: {app: roams}}
  template:
    metadata: {labels: {app: roams}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {node-role.kubernetes.io/control-plane: "true"}
      containers: [{name: main, image: busybox:test, command: [sleep, "100000"]}]
`

// inventory are objects of a cluster that do not change by themselves, with
// their identity.
func inventory(t *testing.T, h *framework.Host) map[string]bool {
	t.Helper()
	out := h.Kubectl(t, "get", "namespaces,nodes,secrets,configmaps,serviceaccounts,services,deployments,replicasets,clusterroles,clusterrolebindings,roles,rolebindings,priorityclasses,csinodes",
		"--all-namespaces", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid}{"\n"}{end}`)
	all := map[string]bool{}
	for line := range strings.Lines(out) {
		all[strings.TrimSpace(line)] = true
	}
	if len(all) < 100 {
		t.Fatalf("there are only %d objects:\n%s", len(all), out)
	}
	return all
}

func TestAClusterComesBackOnAnotherMachine(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"SQLite, Secrets encrypted": nil,
		"etcd, Secrets plain":       {"--cluster-init", "--secrets-encryption=false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comesBack(t, args)
		})
	}
}

// comesBack saves a cluster under load and restores it on another host, with
// another name, address and an empty disk; one agent is told the new address,
// the other finds the new server at the old one.
func comesBack(t *testing.T, args []string) {
	c := suite.NewCluster(t)
	old, moved, stays, fresh := c.NewHost(t, "old"), c.NewHost(t, "moved"), c.NewHost(t, "stays"), c.NewHost(t, "fresh")
	for _, h := range []*framework.Host{old, moved, stays, fresh} {
		if err := h.Preload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	server := old.StartServer(t, args...)
	token := server.Token(t)
	agents := []*framework.Agent{moved.StartAgent(t, server, "--node-label=work=yes"), stays.StartAgent(t, server, "--node-label=work=yes")}
	for _, a := range agents {
		a.AwaitReady(t)
	}
	old.Apply(t, web)
	old.Kubectl(t, "wait", "--for=condition=Available", "--timeout=2m", "deployment/web", "deployment/roams")
	pod := old.Kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}")

	objects := inventory(t, old)

	api := connect(t, old)
	writes := startLoad(t, api)
	writes.await(t, 50)
	before := writes.counts()
	snap := save(t, old, "--name", "moving")
	after := writes.counts()
	writes.await(t, after[0]+20) // the server goes on
	writes.end()
	old.Kubectl(t, "delete", "secret", "precious")
	late := c.NewHost(t, "late")
	newcomer := late.StartAgent(t, server)
	newcomer.AwaitReady(t)
	file := "/root/" + snap.Name + suffix
	if err := fresh.CopyIn(t.Context(), old.Path(snap.Location), file); err != nil {
		t.Fatal(err)
	}
	old.PowerOff(t)

	fresh.WriteFile(t, "/root/token", token)
	said := fresh.Exec(t, "skiff", "snapshot", "restore", "--token-file", "/root/token", file)
	wants(t, "the restore", said, snap.Name, "kubectl delete node old")
	agents[0].MustStopCleanly(t)
	second := fresh.StartServer(t)
	agents[0] = moved.StartAgentAs(t, second, nil, "--server", second.URL(), "--token", token, "--node-label=work=yes")
	agents[1].Server = second
	// The fresh host takes the old one's address over.
	fresh.Exec(t, "ip", "address", "add", old.Address().String()+"/32", "dev", "eth0")
	second.AwaitReady(t)
	for _, a := range agents {
		a.AwaitReady(t)
	}

	checkLoad(t, connect(t, fresh), before, after)
	if got := fresh.Kubectl(t, "get", "secret", "precious", "-o", "jsonpath={.data.word}"); got != "eHl6enk=" {
		t.Errorf("the restored Secret says %q", got)
	}
	if got := fresh.Kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}"); got != pod {
		t.Errorf("the pod is %s, was %s", got, pod)
	}
	have := inventory(t, fresh)
	for object := range objects {
		if !have[object] {
			t.Errorf("%s has not come back", object)
		}
	}
	// What ran on the server that is lost runs on the new one.
	fresh.Kubectl(t, "delete", "node", "old")
	fresh.Kubectl(t, "delete", "pod", "-l", "app=roams", "--force", "--grace-period=0") // upstream's collector takes a minute
	fresh.Kubectl(t, "rollout", "status", "--timeout=2m", "deployment/roams")
	if node := fresh.Kubectl(t, "get", "pods", "-l", "app=roams", "-o", "jsonpath={.items[*].spec.nodeName}"); node != "fresh" {
		t.Errorf("the pod of the lost server runs on %s", node)
	}
	// What agents watched is gone: they must see what is new nevertheless.
	fresh.Kubectl(t, "scale", "--replicas=4", "deployment/web")
	fresh.Kubectl(t, "rollout", "status", "--timeout=2m", "deployment/web")
	fresh.Kubectl(t, "expose", "deployment/web", "--port=80", "--target-port=8080")
	service := fresh.Kubectl(t, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	for _, a := range agents {
		framework.Eventually(t, patience, "the new Service on "+a.Host.Hostname(), func() error {
			_, err := a.Host.Try(t.Context(), nil, "curl", "-sSf", "--max-time", "2", "http://"+service+"/probe/ready")
			return err
		})
		out := fresh.Kubectl(t, "get", "pods", "-l", "app=web", "--field-selector=status.phase=Running,spec.nodeName="+a.Host.Hostname(), "-o", "name")
		if strings.TrimSpace(out) == "" {
			t.Errorf("no new pod runs on %s", a.Host.Hostname())
		}
	}

	// The snapshot knows nothing of it.
	newcomer.MustStopCleanly(t)
	late.StartAgentAs(t, second, nil, "--server", server.URL(), "--token", token).AwaitReady(t)
}
