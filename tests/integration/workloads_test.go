package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

func TestJobs(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: batch/v1
kind: Job
metadata: {name: good}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox:test, command: [sh, -c, 'echo index $JOB_COMPLETION_INDEX']}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox:test, command: ["false"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: gone}
spec:
  ttlSecondsAfterFinished: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox:test, command: ["true"]}]
`)
	n.Wait(t, "condition=Complete", "job/good")
	if got := n.Get(t, "job/good", ".status.succeeded"); got != "3" {
		t.Errorf("%s completions, want 3", got)
	}
	if got := n.Kubectl(t, "logs", "-l", "job-name=good", "--tail=-1"); !strings.Contains(got, "index 2") {
		t.Errorf("the logs are %q", got)
	}
	n.Wait(t, "condition=Failed", "job/bad")
	if got := n.Get(t, "job/bad", `.status.conditions[?(@.type=="Failed")].reason`); got != "BackoffLimitExceeded" {
		t.Errorf("the reason is %q", got)
	}
	n.Wait(t, "delete", "job/gone")
}

func TestCronJob(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: batch/v1
kind: CronJob
metadata: {name: minutely}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: main, image: busybox:test, command: ["true"]}]
`)
	n.Kubectl(t, "create", "job", "by-hand", "--from=cronjob/minutely")
	n.Wait(t, "condition=Complete", "job/by-hand")
	// The schedule fires at the next full minute.
	n.Wait(t, "jsonpath={.status.lastSuccessfulTime}", "cronjob/minutely")
}

func TestDaemonSet(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 1
      hostNetwork: true
      containers: [{name: main, image: busybox:test, command: [sh, -c, 'hostname; exec sleep 100000']}]
`)
	n.Kubectl(t, "rollout", "status", "daemonset/everywhere", "--timeout=100s")
	if out := n.Kubectl(t, "logs", "daemonset/everywhere"); out != n.Hostname() {
		t.Errorf("in the host's network the host name is %q", out)
	}
	n.Kubectl(t, "set", "env", "daemonset/everywhere", "A=b")
	n.Kubectl(t, "rollout", "status", "daemonset/everywhere", "--timeout=100s")
}

func TestStatefulSetKeepsItsVolumes(t *testing.T) {
	n := cluster(t)
	n.Exec(t, "mkdir", "-p", "/srv/volumes/0", "/srv/volumes/1")
	volume := func(number, source string) string {
		return `
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume-` + number + `}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: by-hand
` + source + "\n---"
	}
	local := `  local: {path: /srv/volumes/0}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [` + n.Hostname() + `]}]`
	n.Apply(t, volume("0", local)+volume("1", "  hostPath: {path: /srv/volumes/1, type: Directory}")+`
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: by-hand}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:test
        command: [sh, -c, 'hostname >>/data/starts; exec httpd -f -p 80 -h /data']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: by-hand
      resources: {requests: {storage: 1Gi}}
`)
	t.Cleanup(func() {
		cleanUp(t, n.Host, "pv", "volume-0")
		cleanUp(t, n.Host, "pv", "volume-1")
		cleanUp(t, n.Host, "storageclass", "by-hand")
	})
	n.Kubectl(t, "rollout", "status", "statefulset/db", "--timeout=100s")
	if out := n.ExecIn(t, "db-0", "timeout", "5", "wget", "-qO-", "http://db-1.db."+n.Name+".svc.cluster.local/starts"); out != "db-1" {
		t.Errorf("db-1 was reached by its name and said %q", out)
	}
	before := n.Get(t, "pod/db-0", ".metadata.uid")
	n.Kubectl(t, "delete", "pod", "db-0")
	framework.Eventually(t, time.Minute, "a new db-0", func() error {
		_, err := n.TryKubectl(t.Context(), "wait", "--for=condition=Ready", "--timeout=50s", "pod/db-0")
		return err
	})
	if after := n.Get(t, "pod/db-0", ".metadata.uid"); after == before {
		t.Error("db-0 is the same pod as before")
	}
	if out := n.ExecIn(t, "db-0", "cat", "/data/starts"); out != "db-0\ndb-0" {
		t.Errorf("db-0's volume holds %q", out)
	}
}

func TestGarbageCollection(t *testing.T) {
	n := cluster(t)
	n.Apply(t, web("owner", 1)+web("orphaned", 1))
	n.Kubectl(t, "rollout", "status", "deployment/owner", "deployment/orphaned", "--timeout=100s")

	t.Run("what is owned goes with its owner", func(t *testing.T) {
		n.Kubectl(t, "delete", "deployment", "owner")
		n.Wait(t, "delete", "replicasets", "-l", "app=owner")
		n.Wait(t, "delete", "pods", "-l", "app=owner")
	})
	t.Run("--cascade=orphan leaves it", func(t *testing.T) {
		n.Kubectl(t, "delete", "deployment", "orphaned", "--cascade=orphan")
		n.Wait(t, "delete", "deployment/orphaned")
		if out := n.Get(t, "replicasets", ".items[0].metadata.ownerReferences"); out != "" {
			t.Errorf("the ReplicaSet is still owned: %s", out)
		}
		n.Wait(t, "condition=Ready", "pods", "-l", "app=orphaned")
	})
	t.Run("an object whose owner never existed is removed", func(t *testing.T) {
		n.Apply(t, `
apiVersion: v1
kind: ConfigMap
metadata:
  name: lost
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: nobody, uid: 00000000-0000-0000-0000-000000000001}]
`)
		n.Wait(t, "delete", "configmap/lost")
	})
}

func TestNamespaceDeletionWaitsForFinalizers(t *testing.T) {
	n := cluster(t)
	other := n.Name + "-x"
	n.Host.Kubectl(t, "create", "namespace", other)
	n.KubectlIn(t, strings.NewReader(idle("box")+web("web", 1)+`
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.com/hold]}
`), "-n", other, "apply", "-f", "-")
	n.Host.Kubectl(t, "delete", "namespace", other, "--wait=false")
	n.Wait(t, `jsonpath={.status.conditions[?(@.type=="NamespaceFinalizersRemaining")].status}=True`, "namespace/"+other)
	if out := n.Host.KubectlFails(t, nil, "-n", other, "create", "configmap", "late"); !strings.Contains(out, "being terminated") {
		t.Errorf("a terminating namespace says %q", out)
	}
	n.Host.Kubectl(t, "-n", other, "patch", "configmap", "held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	n.Wait(t, "delete", "namespace/"+other)
	if out := n.Host.Kubectl(t, "get", "pods,services,deployments,configmaps", "-A", "--field-selector=metadata.namespace="+other, "-o", "name"); out != "" {
		t.Errorf("left of the namespace: %s", out)
	}
}
