package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/skiff-k8s/skiff/tests/framework"
)

func TestPodSecurityAdmission(t *testing.T) {
	n := cluster(t)
	n.Host.Kubectl(t, "label", "namespace", n.Name, "pod-security.kubernetes.io/enforce=restricted")
	if out := n.KubectlFails(t, idle("rude"), "apply", "-f", "-"); !strings.Contains(out, `violates PodSecurity "restricted:latest"`) {
		t.Errorf("a pod that is not restricted: %s", out)
	}
	n.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: meek}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: scratch, emptyDir: {}}]
  containers:
  - name: main
    image: busybox:test
    command: [sleep, "100000"]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
`)
	n.Wait(t, "condition=Ready", "pod/meek")
	script := `id -u; touch /x 2>&1; touch /scratch/x && stat -c %g /scratch/x; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\t\n' ' '`
	got := n.ExecIn(t, "meek", "sh", "-c", script)
	if want := "1000\ntouch: /x: Read-only file system\n2000\nCapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2"; got != want {
		t.Errorf("inside the pod: %q, want %q", got, want)
	}
}

func TestCustomResources(t *testing.T) {
	n := cluster(t)
	n.Apply(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.harbour.example.com}
spec:
  group: harbour.example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.crew, statusReplicasPath: .status.aboard}
    additionalPrinterColumns: [{name: Crew, type: integer, jsonPath: .spec.crew}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          status: {type: object, properties: {aboard: {type: integer}}}
          spec:
            type: object
            properties:
              crew: {type: integer, default: 2}
              seats: {type: integer, maximum: 12}
            x-kubernetes-validations:
            - {rule: "self.crew <= self.seats", message: the crew needs a seat each}
            - {rule: "self.seats == oldSelf.seats", message: a boat does not grow}
`)
	t.Cleanup(func() { cleanUp(t, n.Host, "crd", "boats.harbour.example.com") })
	n.Wait(t, "condition=Established", "crd/boats.harbour.example.com")
	boat := func(name string, spec string) string {
		return fmt.Sprintf("apiVersion: harbour.example.com/v1\nkind: Boat\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	}
	framework.Eventually(t, 30*time.Second, "the API serves boats", func() error {
		_, err := n.TryKubectl(t.Context(), "get", "boats")
		return err
	})
	n.Apply(t, boat("skiff", "{seats: 4}"))
	if out := n.Kubectl(t, "get", "bt", "skiff", "--no-headers"); !strings.HasPrefix(strings.Join(strings.Fields(out), " "), "skiff 2") {
		t.Errorf("get: %q", out)
	}
	for want, spec := range map[string]string{
		"the crew needs a seat each":         "{seats: 4, crew: 5}",
		"should be less than or equal to 12": "{seats: 13}",
		"a boat does not grow":               "{seats: 5}",
		`unknown field "spec.sail"`:          "{seats: 4, sail: true}",
		"must be of type integer":            "{seats: four}",
	} {
		if out := n.KubectlFails(t, boat("skiff", spec), "apply", "-f", "-"); !strings.Contains(out, want) {
			t.Errorf("%s: %s", spec, out)
		}
	}
	n.Kubectl(t, "scale", "boat/skiff", "--replicas=3")
	if got := n.Get(t, "boat/skiff", ".spec.crew"); got != "3" {
		t.Errorf("after scaling the crew is %s", got)
	}
	if out := n.Kubectl(t, "explain", "boat.spec.crew"); !strings.Contains(out, "integer") {
		t.Errorf("explain: %s", out)
	}
}

func TestValidatingWebhookServedByAPod(t *testing.T) {
	n := cluster(t)
	cert := tlsPod(t, n, "hook", "webhook")
	n.Apply(t, fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %[1]s}
webhooks:
- name: config.example.com
  clientConfig: {service: {name: hook, namespace: %[1]s}, caBundle: %[2]s}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}]
  sideEffects: None
  failurePolicy: Fail
  admissionReviewVersions: [v1]
`, n.Name, base64.StdEncoding.EncodeToString([]byte(cert))))
	t.Cleanup(func() { cleanUp(t, n.Host, "validatingwebhookconfiguration", n.Name) })
	framework.Eventually(t, time.Minute, "the webhook refuses", func() error {
		out, err := n.TryKubectl(t.Context(), "create", "configmap", "bad", "--from-literal=forbidden=x")
		if err == nil {
			_, err = n.TryKubectl(t.Context(), "delete", "configmap", "bad")
			return fmt.Errorf("it did not: %s, %w", out, err)
		}
		if !strings.Contains(err.Error(), "the key forbidden is forbidden") {
			return err
		}
		return nil
	})
	n.Kubectl(t, "create", "configmap", "good", "--from-literal=allowed=x")
}

// certificate is a self-signed one for a server, in PEM.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, data []byte) string {
		var b bytes.Buffer
		if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: data}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER)
}
