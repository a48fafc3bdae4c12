package snapshot

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/tests/framework"
	"github.com/skiff-k8s/skiff/tests/framework/nshost"
)

// TestSnapshotsAreKeptInTwoPlaces is the life of one server's snapshots: the
// schedule, a bucket whose settings come late, lists, objects, old ones that go,
// and a machine that has nothing but the bucket.
func TestSnapshotsAreKeptInTwoPlaces(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t)
	h, fresh := c.NewHost(t, "one"), c.NewHost(t, "two")
	bucket := startS3(t, h.Gateway())
	server := h.StartServer(t, "--disable-agent", "--snapshot-schedule-cron=@every 10s", "--snapshot-retention=1", "--snapshot-name=often",
		"--s3", "--s3-config-secret=bucket", "--s3-folder=deep/down")
	token := server.Token(t)
	awaitAPI(t, h)

	// There is no Secret yet: what is saved stays in the directory, and people
	// are told.
	wants(t, "a save without the Secret", refused(t, h, "save", "--name=first"), directory, "could not be uploaded", "kube-system/bucket")
	first := skiffPartly(t, h, "list")
	if len(first) == 0 || first[len(first)-1].Place != "local" {
		t.Fatalf("after a save without a bucket the list is %s", names(first))
	}
	framework.Eventually(t, patience, "an event of the scheduled snapshot that failed", func() error {
		out, err := h.TryKubectl(t.Context(), "get", "events", "-n", "default", "--field-selector=reason=SnapshotFailed,involvedObject.name=one", "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(out, "kube-system/bucket") {
			err = fmt.Errorf("the events say %q", out)
		}
		return err
	})
	metric(t, h, "skiff_snapshot_failures_total", func(n string) bool { return n != "0" })

	h.WriteFile(t, "/root/ca.pem", bucket.ca)
	h.Kubectl(t, "create", "secret", "generic", "bucket", "-n", "kube-system", "--from-literal=s3-endpoint="+bucket.endpoint, "--from-literal=s3-bucket="+bucketName,
		"--from-literal=etcd-s3-access-key="+accessKey, "--from-literal=s3-secret-key="+secretKey, "--from-file=s3-endpoint-ca=/root/ca.pem")
	h.Kubectl(t, "create", "configmap", "precious", "--from-literal=word=xyzzy")
	both := skiff(t, h, "save", "--name=kept")
	if len(both) != 2 || both[0].Place != "local" || both[1].Place != "s3" || both[0].Name != both[1].Name || both[1].Size != both[0].Size {
		t.Fatalf("a save with a bucket gives %+v", both)
	}
	if both[1].Location != "s3://"+bucketName+"/deep/down/"+both[1].Name+suffix {
		t.Errorf("the copy on S3 is said to be %s", both[1].Location)
	}
	awaitObjects(t, h, "kept", "local-"+both[0].Name+"-one", "s3-"+both[1].Name)

	// Newer ones take the place of older ones, in both places.
	gone := skiff(t, h, "save", "--name=kept")
	if all := names(skiff(t, h, "prune", "--name=kept", "--keep=1")); all != "local:"+both[0].Name+" s3:"+both[0].Name {
		t.Errorf("pruned were %s", all)
	}
	awaitObjects(t, h, "kept", "local-"+gone[0].Name+"-one", "s3-"+gone[0].Name)
	last := save(t, h, "--name=last")
	skiff(t, h, "delete", gone[0].Name)
	awaitObjects(t, h, "kept")
	wants(t, "deleting it twice", refused(t, h, "delete", gone[0].Name), "there is no snapshot "+gone[0].Name, "skiff snapshot list")
	framework.Eventually(t, 2*patience, "two rounds of the schedule", func() error {
		return scheduled(skiff(t, h, "list"))
	})
	metric(t, h, "skiff_snapshot_last_success_timestamp_seconds", func(n string) bool { return n != "0" })
	if logs := server.Logs(); strings.Contains(logs, secretKey) {
		t.Error("the log has the bucket's key")
	}
	h.PowerOff(t)

	// Another machine has nothing but the token and the bucket.
	fresh.WriteFile(t, "/root/ca.pem", bucket.ca)
	fresh.WriteFile(t, "/etc/skiff/config.yaml", fmt.Sprintf("s3: true\ns3-endpoint: %q\ns3-endpoint-ca: /root/ca.pem\ns3-bucket: %s\ns3-folder: deep/down\ns3-access-key: %s\ns3-secret-key: %q\n",
		bucket.endpoint, bucketName, accessKey, secretKey))
	if all := names(skiff(t, fresh, "list")); !strings.Contains(all, "s3:"+last.Name) {
		t.Errorf("a machine without snapshots of its own lists %s", all)
	}
	fresh.Exec(t, "skiff", "snapshot", "restore", "--token", token, last.Name)
	fresh.StartServer(t, "--disable-agent", "--disable-snapshots")
	framework.Eventually(t, patience, "the object that was saved", func() error {
		out, err := fresh.TryKubectl(t.Context(), "get", "configmap", "precious", "-o", "jsonpath={.data.word}")
		if err == nil && out != "xyzzy" {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	})
}

// skiffPartly is skiff where a place cannot be reached: what is known is
// printed nevertheless.
func skiffPartly(t *testing.T, h *framework.Host, command string) []saved {
	t.Helper()
	r := h.Outcome(t, nshost.Cmd{Args: []string{"skiff", "snapshot", command, "-o", "json"}})
	if r.Code == 0 {
		t.Errorf("skiff snapshot %s succeeds without its bucket", command)
	}
	return decode(t, r.Stdout)
}

// scheduled says whether the schedule has made a snapshot since it can reach the
// bucket, and kept one of its own in each place.
func scheduled(all []saved) error {
	count := map[string]int{}
	for _, s := range all {
		if strings.HasPrefix(s.Name, "often-one-") {
			count[s.Place]++
		}
	}
	if count["local"] != 1 || count["s3"] != 1 {
		return fmt.Errorf("there are %s", names(all))
	}
	return nil
}

// awaitObjects waits until the objects of the snapshots of a name are these.
func awaitObjects(t *testing.T, h *framework.Host, name string, want ...string) {
	t.Helper()
	framework.Eventually(t, patience, "the objects of the snapshots", func() error {
		out, err := h.TryKubectl(t.Context(), "get", "snapshots.skiff.io", "-o", "jsonpath={range .items[*]}{.metadata.name} {.spec.size}\n{end}")
		if err != nil {
			return err
		}
		var have []string
		for line := range strings.Lines(out) {
			object, size, _ := strings.Cut(strings.TrimSpace(line), " ")
			if !strings.Contains(object, "-"+name+"-") {
				continue
			}
			if size == "" || size == "0" {
				return fmt.Errorf("%s has no size", object)
			}
			have = append(have, object)
		}
		if strings.Join(have, " ") != strings.Join(want, " ") {
			return fmt.Errorf("there are %v, want %v", have, want)
		}
		return nil
	})
}

// metric waits for the value of a metric.
func metric(t *testing.T, h *framework.Host, name string, good func(string) bool) {
	t.Helper()
	framework.Eventually(t, patience, name, func() error {
		out, err := h.TryKubectl(t.Context(), "get", "--raw=/metrics")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
				if good(n) {
					return nil
				}
				return fmt.Errorf("it is %s", n)
			}
		}
		return fmt.Errorf("there is no such metric")
	})
}
