package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

func TestInitContainersAndSidecars(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: work}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 5
      volumes: [{name: shared, emptyDir: {}}]
      initContainers:
      - name: first
        image: busybox:test
        command: [sh, -c, 'echo first >>/shared/order']
        volumeMounts: [{name: shared, mountPath: /shared}]
      - name: sidecar
        image: busybox:test
        restartPolicy: Always
        command: [sh, -c, 'echo sidecar >>/shared/order; trap "echo bye; exit 0" TERM; httpd -p 80 -h /shared; while :; do sleep 1; done']
        startupProbe: {httpGet: {path: /order, port: 80}, periodSeconds: 1}
        volumeMounts: [{name: shared, mountPath: /shared}]
      - name: second
        image: busybox:test
        command: [sh, -c, 'wget -qO- http://127.0.0.1/order >/dev/null && echo second >>/shared/order']
        volumeMounts: [{name: shared, mountPath: /shared}]
      containers:
      - name: main
        image: busybox:test
        command: [sh, -c, 'wget -qO- http://127.0.0.1/order']
`)
	n.Wait(t, "condition=Complete", "job/work")
	if out := n.Kubectl(t, "logs", "-l", "app=work", "-c", "main"); out != "first\nsidecar\nsecond" {
		t.Errorf("the order was %q", out)
	}
	// The sidecar did not keep the Job from completing, and was asked to stop.
	if out := n.Kubectl(t, "logs", "-l", "app=work", "-c", "sidecar"); out != "bye" {
		t.Errorf("the sidecar's last words are %q", out)
	}
}

// probed is a pod of the steerable server with a probe of one kind.
func probed(kind, settings string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff/web:test
    ports: [{name: http, containerPort: 8080}]
    %[1]sProbe: {httpGet: {path: /probe/%[1]s, port: http}, periodSeconds: 1, %[2]s}
---
`, kind, settings)
}

func TestProbes(t *testing.T) {
	n := cluster(t)
	n.Apply(t, probed("liveness", "failureThreshold: 2")+probed("readiness", "failureThreshold: 1")+`
apiVersion: v1
kind: Service
metadata: {name: readiness}
spec: {selector: {app: readiness}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: startup}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:test
    command: [sh, -c, 'while [ ! -e /tmp/go ]; do sleep 0.2; done; touch /tmp/up; exec sleep 100000']
    startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 100}
    livenessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 1}
`)
	n.Wait(t, "condition=Ready", "pod/liveness", "pod/readiness")
	order := func(t *testing.T, pod, verb string) {
		t.Helper()
		n.Kubectl(t, "get", "--raw", "/api/v1/namespaces/"+n.Name+"/pods/"+pod+":8080/proxy/"+verb+"/"+pod)
	}
	t.Run("a failing liveness probe has the container started again", func(t *testing.T) {
		order(t, "liveness", "fail")
		n.Wait(t, "jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/liveness")
		n.Wait(t, "condition=Ready", "pod/liveness")
		if out := n.Kubectl(t, "logs", "liveness", "--previous"); !strings.Contains(out, "listening") {
			t.Errorf("the logs of the first container are %q", out)
		}
	})
	t.Run("a failing readiness probe takes the pod out of the Service until it is mended", func(t *testing.T) {
		ready := `jsonpath={.items[0].endpoints[0].conditions.ready}`
		slice := []string{"endpointslices", "-l", "kubernetes.io/service-name=readiness"}
		order(t, "readiness", "fail")
		n.Wait(t, "condition=Ready=false", "pod/readiness")
		isReady := func(want string) {
			framework.Eventually(t, 30*time.Second, "the endpoint's ready is "+want, func() error {
				out, err := n.TryKubectl(t.Context(), append([]string{"get", "-o", ready}, slice...)...)
				if err == nil && out != want {
					err = fmt.Errorf("it is %q", out)
				}
				return err
			})
		}
		isReady("false")
		order(t, "readiness", "mend")
		n.Wait(t, "condition=Ready", "pod/readiness")
		isReady("true")
		if got := n.Get(t, "pod/readiness", ".status.containerStatuses[0].restartCount"); got != "0" {
			t.Errorf("the readiness probe restarted the container %s times", got)
		}
	})
	t.Run("a startup probe holds the liveness probe back", func(t *testing.T) {
		n.Wait(t, "jsonpath={.status.phase}=Running", "pod/startup")
		if got := n.Get(t, "pod/startup", ".status.containerStatuses[0].started"); got != "false" {
			t.Errorf("started is %q", got)
		}
		n.ExecIn(t, "startup", "touch", "/tmp/go")
		n.Wait(t, "condition=Ready", "pod/startup")
		if got := n.Get(t, "pod/startup", ".status.containerStatuses[0].restartCount"); got != "0" {
			t.Errorf("the container was restarted %s times", got)
		}
	})
}

func TestPodsAreToldToStop(t *testing.T) {
	n := cluster(t)
	n.Exec(t, "mkdir", "-p", "/srv/hooks")
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{name: hooks, hostPath: {path: /srv/hooks}}]
  containers:
  - name: main
    image: busybox:test
    command: [sh, -c, 'trap "echo term >>/hooks/order; exit 0" TERM; while :; do sleep 0.1; done']
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'echo start >>/hooks/order']}}
      preStop: {exec: {command: [sh, -c, 'echo stop >>/hooks/order']}}
    volumeMounts: [{name: hooks, mountPath: /hooks}]
`)
	n.Wait(t, "condition=Ready", "pod/polite")
	n.Kubectl(t, "delete", "pod", "polite", "--timeout=60s")
	if got := n.ReadFile(t, "/srv/hooks/order"); got != "start\nstop\nterm\n" {
		t.Errorf("the order was %q", got)
	}
}

func TestDownwardAPI(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: aware, labels: {tier: front}, annotations: {note: hello}}
spec:
  restartPolicy: Never
  volumes:
  - name: info
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}
  containers:
  - name: main
    image: busybox:test
    command: [sh, -c, 'echo "$NAME $SPACE $NODE $MEMORY"; [ "$IP" = "$(hostname -i)" ] && echo same; cat /info/labels; echo; cat /info/cpu']
    resources: {limits: {cpu: 250m, memory: 32Mi}}
    volumeMounts: [{name: info, mountPath: /info}]
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: SPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
`)
	n.Wait(t, "jsonpath={.status.phase}=Succeeded", "pod/aware")
	want := fmt.Sprintf("aware %s %s 33554432\nsame\ntier=\"front\"\n250", n.Name, n.Hostname())
	if got := n.Kubectl(t, "logs", "aware"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
