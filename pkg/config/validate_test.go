package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func sprint(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

func TestFilesAreStrict(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"an unknown key gets a suggestion": {"debug: true\nclustr-cidr: 10.0.0.0/8",
			"DIR/config.yaml:2: clustr-cidr: there is no such setting; did you mean cluster-cidr?"},
		"underscores get one too":             {"node_label: a=b", "DIR/config.yaml:1: node_label: there is no such setting; did you mean node-label?"},
		"nonsense gets none":                  {"xyzzy: 1", "DIR/config.yaml:1: xyzzy: there is no such setting; see skiff server --help"},
		"a short name is no key":              {"d: /data", "DIR/config.yaml:1: d: short names are for the command line; write data-dir"},
		"a key is there twice":                {"v: 1\n\nv: 2", "DIR/config.yaml:3: v: the key is there twice, first in line 1; leave one of them out"},
		"a list for one value":                {"v: [1]", "DIR/config.yaml:1: v: it is a list, where one value is wanted; write v: 0"},
		"a mapping":                           {"node-label:\n  a: b", "DIR/config.yaml:1: node-label: it is a mapping (KEY: VALUE lines below it); write one value, or a list of \"- NAME=VALUE\" lines"},
		"a list in a list":                    {"node-label:\n- a=b\n- [c=d]", "DIR/config.yaml:3: node-label[1]: the item is not one plain value; write it as one word or quote it"},
		"adding to one value":                 {"v+: 1", "DIR/config.yaml:1: v+: only lists can be added to; write v: 0"},
		"a wrong type":                        {"debug: true\nhttps-listen-port: http", "DIR/config.yaml:2: https-listen-port: \"http\" is not a whole number; write digits only"},
		"a wrong switch":                      {"debug: maybe", "DIR/config.yaml:1: debug: \"maybe\" is neither true nor false; write true or false"},
		"an item of a list":                   {"node-label:\n- a=b\n- c", "DIR/config.yaml:3: node-label[1]: \"c\" is not KEY=VALUE; write it like disk=ssd"},
		"a relative path":                     {"data-dir: data", "DIR/config.yaml:1: data-dir: \"data\" is a relative path, and relative to what is not known here; write it with its whole path"},
		"a file that names a file":            {"config: /x", "DIR/config.yaml:1: config: a configuration file cannot name another; put further files into DIR/config.yaml.d"},
		"no mapping at all":                   {"- a\n- b", "DIR/config.yaml:1: it is not a list of KEY: VALUE lines; write settings like \"debug: true\", one per line"},
		"no YAML":                             {"debug: true\n  v: {", "DIR/config.yaml:2: it is not YAML: mapping values are not allowed in this context; see to indentation, quotes and the colon after a key"},
		"two documents":                       {"debug: true\n---\nv: 1", "DIR/config.yaml: it has more than one YAML document; put further settings into files in DIR/config.yaml.d"},
		"merge keys":                          {"<<: {v: 1}", "DIR/config.yaml:1: a key is not a plain word; write the name of a setting"},
		"a flag of k3s that is not here yet":  {"embedded-registry: true", "DIR/config.yaml:1: embedded-registry: this flag of k3s is not supported yet; leave it out"},
		"one with a harmless value elsewhere": {"supervisor-metrics: true", "DIR/config.yaml:1: supervisor-metrics: this flag of k3s is not supported yet; leave it out"},
		"one that k3s dropped":                {"no-deploy: traefik", "DIR/config.yaml:1: no-deploy: this flag of k3s does not exist here; use disable"},
	} {
		t.Run(name, func(t *testing.T) {
			got := newHost(t).write("config.yaml", c.file).problems()
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), c.want)
			}
		})
	}
}

func TestValuesAreJudged(t *testing.T) {
	for name, c := range map[string]struct {
		flags Given
		want  string // contained in the only problem
	}{
		"a bad CIDR":                             {Given{"cluster-cidr": {"10.42.0.0"}}, `--cluster-cidr: "10.42.0.0" is not a CIDR; write it like`},
		"a CIDR with host bits":                  {Given{"cluster-cidr": {"10.42.0.1/16"}}, `beyond its prefix length; write 10.42.0.0/16`},
		"overlapping CIDRs":                      {Given{"cluster-cidr": {"10.0.0.0/8"}}, "--service-cidr: 10.43.0.0/16 overlaps cluster-cidr 10.0.0.0/8"},
		"two CIDRs of a family":                  {Given{"cluster-cidr": {"10.1.0.0/16,10.2.0.0/16"}}, "--cluster-cidr: it has more than one CIDR of an address family"},
		"families in another order":              {Given{"cluster-cidr": {"10.1.0.0/16,fd01::/56"}, "service-cidr": {"fd02::/112,10.3.0.0/16"}}, "--service-cidr: its address families (IPv6, IPv4) are not those of cluster-cidr (IPv4, IPv6)"},
		"a cluster CIDR without room for a node": {Given{"cluster-cidr": {"10.42.0.0/25"}}, "10.42.0.0/25 is too small; choose a prefix length of at most 24"},
		"a cluster CIDR of too many nodes":       {Given{"cluster-cidr": {"fd00::/40"}}, "fd00::/40 is larger than Kubernetes takes; choose a prefix length from 48 to 64"},
		"a service CIDR without room":            {Given{"service-cidr": {"10.43.0.0/29"}}, "10.43.0.0/29 is too small; choose a prefix length of at most 28"},
		"a loopback CIDR":                        {Given{"cluster-cidr": {"127.0.0.0/16"}}, "set aside for other purposes"},
		"a node inside the pods' network":        {Given{"node-ip": {"10.42.3.4"}}, "--node-ip: 10.42.3.4 lies inside cluster-cidr 10.42.0.0/16; move one of them"},
		"an advertised address among Services":   {Given{"advertise-address": {"10.43.3.4"}}, "10.43.3.4 lies inside service-cidr 10.43.0.0/16"},
		"DNS outside service-cidr":               {Given{"cluster-dns": {"10.96.0.10"}}, "--cluster-dns: 10.96.0.10 is not in service-cidr (10.43.0.0/16); choose an address inside it, or leave cluster-dns out to get 10.43.0.10"},
		"DNS at the kubernetes Service":          {Given{"cluster-dns": {"10.43.0.1"}}, "10.43.0.1 belongs to the kubernetes Service"},
		"two DNS addresses of a family":          {Given{"cluster-dns": {"10.43.0.10", "10.43.0.11"}}, "more than one address of an address family"},
		"a node with the wrong family first":     {Given{"node-ip": {"2001:db8::1", "192.0.2.1"}}, "its first address is IPv6, the first cluster-cidr is IPv4"},
		"two node addresses of a family":         {Given{"node-ip": {"192.0.2.1", "192.0.2.2"}}, "--node-ip: it has more than one address"},
		"a loopback node":                        {Given{"node-ip": {"127.0.0.1"}}, "is a loopback address; name an address that other machines can reach"},
		"an advertised wildcard":                 {Given{"advertise-address": {"0.0.0.0"}}, "0.0.0.0 stands for every address"},
		"an address with a zone":                 {Given{"bind-address": {"fe80::1%eth0"}}, "is not an IP address"},
		"a port too high":                        {Given{"https-listen-port": {"65536"}}, "65536 is out of range; choose one from 1 to 65535"},
		"an unknown way to nodes":                {Given{"egress-selector-mode": {"konnectivity"}}, "choose one of agent, pod, cluster, disabled"},
		"the kubelet's port":                     {Given{"https-listen-port": {"10250"}}, "port 10250 is taken by the kubelet"},
		"the API among the node ports":           {Given{"https-listen-port": {"30001"}}, "30000-32767 contains port 30001, on which the API is served"},
		"a node port range without end":          {Given{"service-node-port-range": {"30000-"}}, `"30000-" is not a range of ports`},
		"node ports over the kubelet's":          {Given{"service-node-port-range": {"10000-20000"}}, "contains port 10250, the kubelet's"},
		"a domain with capitals":                 {Given{"cluster-domain": {"Cluster.Local"}}, "is not a DNS name"},
		"a certificate for a URL":                {Given{"tls-san": {"https://k8s.example.com"}}, "neither a DNS name nor an IP address; write a host name or an address, without scheme and port"},
		"an unknown backend":                     {Given{"flannel-backend": {"vxlan2"}}, `"vxlan2" is not known; did you mean "vxlan"?`},
		"a file mode in words":                   {Given{"write-kubeconfig-mode": {"rw"}}, `"rw" is not a file mode; write it in octal`},
		"a file mode for everyone":               {Given{"write-kubeconfig-mode": {"666"}}, "lets everyone write the administrator's credentials"},
		"a group that is not there":              {Given{"write-kubeconfig-group": {"no-such-group"}}, `there is no group "no-such-group"`},
		"a label that Kubernetes reserves":       {Given{"node-label": {"node-role.kubernetes.io/edge=true"}}, "must not give itself the label node-role.kubernetes.io/edge"},
		"a label of NodeRestriction":             {Given{"node-label": {"x.node-restriction.kubernetes.io/a=b"}}, "must not give itself the label"},
		"a label with a bad key":                 {Given{"node-label": {"-a=b"}}, `"-a" is not a label's key`},
		"a label with a bad value":               {Given{"node-label": {"a=b c"}}, `"b c" is not a label's value`},
		"a label with two values":                {Given{"node-label": {"a=b", "a=c"}}, `label a is set to "b" and to "c"`},
		"a taint without effect":                 {Given{"node-taint": {"a=b"}}, `"a=b" has no effect; write it like`},
		"a taint with another effect":            {Given{"node-taint": {"a=b:NoRun"}}, `"NoRun" is not a taint's effect; choose one of NoSchedule`},
		"a taint with two values":                {Given{"node-taint": {"a=b:NoSchedule", "a=c:NoSchedule"}}, "have the same key and effect"},
		"a node's name with underscores":         {Given{"node-name": {"my_node"}}, `"my_node" cannot be a node's name`},
		"a file that is not there":               {Given{"resolv-conf": {"/nonexistent/resolv.conf"}}, "/nonexistent/resolv.conf: no such file or directory; make it, or leave the setting out"},
		"an unknown part":                        {Given{"disable": {"coredn"}}, `there is no packaged part "coredn"; did you mean "coredns"?`},
		"a part that has a flag":                 {Given{"disable": {"kube-proxy"}}, "set disable-kube-proxy to true"},
		"flannel as a part":                      {Given{"disable": {"flannel"}}, "set flannel-backend to none"},
		"an argument without name":               {Given{"kubelet-arg": {"=x"}}, `"=x" is not NAME=VALUE`},
		"an argument that others must know":      {Given{"kube-apiserver-arg": {"service-cluster-ip-range=10.0.0.0/16"}}, "service-cluster-ip-range concerns more than this component; set service-cidr instead"},
		"a feature gate that is no switch":       {Given{"kubelet-arg": {"feature-gates=A"}}, `"A" is not a feature gate`},
		"a feature gate on here and off there":   {Given{"kubelet-arg": {"feature-gates=A=true,B=true"}, "kube-apiserver-arg": {"feature-gates=B=false"}}, "--kubelet-arg: feature gate B is set to true here and to false in kube-apiserver-arg"},
		"two verbosities":                        {Given{"kubelet-arg": {"v=4"}, "kube-scheduler-arg": {"v=5"}}, "v is set to 4 here and to 5 in kube-scheduler-arg"},
		"a socket of another kind":               {Given{"container-runtime-endpoint": {"tcp://1.2.3.4:5"}}, "is not the path of a socket"},
		"a level without component":              {Given{"log-level": {"debug"}}, `"debug" is not COMPONENT=LEVEL`},
		"a pattern without level":                {Given{"vmodule": {"reflector"}}, `"reflector" is not PATTERN=LEVEL`},
		"a negative verbosity":                   {Given{"v": {"-1"}}, "-1 is out of range"},
		"a duration without unit":                {Given{"datastore-slow-query": {"5"}}, `"5" is not a duration`},
		"a cgroup that is not absolute":          {Given{"cgroup-root": {"skiff"}}, "is not the path of a cgroup"},
		"an image name with spaces":              {Given{"pause-image": {"a b"}}, "is not an image name"},
		"the root as data directory":             {Given{"data-dir": {"/"}}, "the root directory cannot be the data directory"},
		"a configuration file that is not there": {Given{"config": {"/nonexistent/c.yaml"}}, "--config: there is no file /nonexistent/c.yaml"},
		"a configuration file on the web":        {Given{"config": {"https://example.com/c.yaml"}}, "configuration files are not fetched from URLs"},
		"a flag of k3s":                          {Given{"embedded-registry": {"true"}}, "--embedded-registry: this flag of k3s is not supported yet"},
		"a server that is the first and another": {Given{"cluster-init": {"true"}, "server": {"https://a"}}, "--server: there is cluster-init, too; keep cluster-init on the first server and server on the others"},
		"an argument of etcd that Skiff decides": {Given{"etcd-arg": {"initial-cluster=a=b"}}, "--etcd-arg: initial-cluster is decided by Skiff"},
		"a schedule that is none":                {Given{"snapshot-schedule-cron": {"daily"}}, `"daily" is not a cron expression`},
		"a name that is none":                    {Given{"snapshot-name": {"a/b"}}, `"a/b" cannot begin the name of a file`},
		"a bucket without a name":                {Given{"s3": {"true"}}, "--s3: there is no bucket; set s3-bucket, or s3-config-secret"},
		"half a key of a bucket":                 {Given{"s3": {"true"}, "s3-bucket": {"b"}, "s3-access-key": {"a"}}, "set both of s3-access-key and s3-secret-key, or none"},
		"an endpoint with a scheme":              {Given{"s3-endpoint": {"https://s3.example.com"}}, "is not a host with or without a port"},
		"a setting of k3s for etcd's snapshots":  {Given{"etcd-snapshot-retention": {"3"}}, "--etcd-snapshot-retention: this flag of k3s does not exist here; use snapshot-retention"},
		"a snapshot for a reset that is none":    {Given{"cluster-reset-restore-path": {"a"}}, "there is no cluster-reset; add --cluster-reset"},
		"a snapshotter that is not built in":     {Given{"snapshotter": {"stargz"}}, `"stargz" is not known; choose one of overlayfs, native`},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.in.Flags = c.flags
			got := h.problems()
			if len(got) != 1 || !strings.Contains(got[0], c.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), c.want)
			}
		})
	}
}

func TestWhatIsAllowedIsAllowed(t *testing.T) {
	for name, flags := range map[string]Given{
		"two families": {"cluster-cidr": {"10.1.0.0/16,fd01::/56"}, "service-cidr": {"10.2.0.0/16,fd02::/112"}, "node-ip": {"192.0.2.1,2001:db8::1"}},
		"one node address in a dual-stack cluster": {"cluster-cidr": {"10.1.0.0/16,fd01::/56"}, "node-ip": {"192.0.2.1"}},
		"DNS elsewhere when ours is off":           {"disable": {"coredns"}, "cluster-dns": {"192.0.2.53"}},
		"small clusters with small nodes":          {"cluster-cidr": {"10.42.0.0/26"}, "kube-controller-manager-arg": {"node-cidr-mask-size=28"}},
		"a /8 of Services":                         {"service-cidr": {"11.0.0.0/8"}},
		"ports with a plus":                        {"service-node-port-range": {"30000+100"}},
		"labels that a node may have":              {"node-label": {"node.kubernetes.io/instance-type=small,topology.kubernetes.io/zone=a,example.com/x=,plain=1"}},
		"taints without value":                     {"node-taint": {"a:NoSchedule", "a:NoExecute", "example.com/b=c:PreferNoSchedule"}},
		"certificates for wildcards and addresses": {"tls-san": {"*.example.com", "192.0.2.1", "2001:db8::1", "Host"}},
		"gates that agree":                         {"kubelet-arg": {"feature-gates=A=true"}, "kube-proxy-arg": {"feature-gates=A=true,B=false"}},
		"another runtime's socket":                 {"container-runtime-endpoint": {"/run/crio/crio.sock"}},
		"groups by number":                         {"write-kubeconfig-group": {"0"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.in.Flags = flags
			h.load()
		})
	}
}

func TestEveryProblemIsReportedAtOnceWhereItIs(t *testing.T) {
	h := newHost(t).
		write("config.yaml", "debug: 7\nclustr-cidr: x\nkubelet-arg:\n- v=2\n- feature-gates=A=false").
		write("config.yaml.d/a.yaml", "https-listen-port: 0")
	h.in.Environ = []string{"SKIFF_NODE_IP=10.43.0.7", "SKIFF_URL=http://10.0.0.1:6443"}
	h.in.Flags = Given{"kube-apiserver-arg": {"feature-gates=A=true"}, "disable": {"dns"}}
	want := []string{
		`DIR/config.yaml:1: debug: "7" is neither true nor false`,
		`DIR/config.yaml:2: clustr-cidr: there is no such setting`,
		`DIR/config.yaml:5: kubelet-arg[1]: feature gate A is set to false here and to true in kube-apiserver-arg`,
		`DIR/config.yaml.d/a.yaml:1: https-listen-port: 0 is out of range`,
		`$SKIFF_URL: "http://10.0.0.1:6443" does not begin with https://`,
		`$SKIFF_NODE_IP: 10.43.0.7 lies inside service-cidr`,
		`--disable: the DNS part has another name; write "coredns"`,
	}
	got := h.problems()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestHostNameThatNoNodeCanHave(t *testing.T) {
	h := newHost(t)
	h.in.Hostname = func() (string, error) { return "my_host", nil }
	if got := h.problems(); !strings.HasPrefix(got[0], `--node-name: "my_host" cannot be a node's name; set node-name`) {
		t.Errorf("got %q", got)
	}
	h.in.Hostname = func() (string, error) { return "", errors.New("no name") }
	if got := h.problems(); !strings.Contains(got[0], "set node-name") {
		t.Errorf("got %q", got)
	}
}

func TestSuggestionsAreNear(t *testing.T) {
	names := []string{}
	for _, f := range Flags() {
		names = append(names, f.Name)
	}
	for misspelt, want := range map[string]string{
		"nodelabel": "node-label", "flanel-backend": "flannel-backend", "DATA_DIR": "data-dir", "kubelet-args": "kubelet-arg",
		"https-listenport": "https-listen-port", "tsl-san": "tls-san", "quux": "",
	} {
		if got := Suggest(misspelt, names); got != want {
			t.Errorf("%s: suggested %q, want %q", misspelt, got, want)
		}
	}
}

func TestTableIsSound(t *testing.T) {
	seen := map[string]string{}
	for _, f := range Flags() {
		if f.Usage == "" || f.Category == "" {
			t.Errorf("%s lacks usage or category", f.Name)
		}
		for _, name := range slices.Concat([]string{f.Name}, f.Aliases, f.Env()) {
			if other, taken := seen[name]; taken {
				t.Errorf("%s is both %s and %s", name, other, f.Name)
			}
			seen[name] = f.Name
		}
		_ = f.Kind() // panics for a field of a type that decode does not know
	}
	for _, f := range ForeignFlags() {
		if other, taken := seen[f.Name]; taken {
			t.Errorf("k3s' %s is also ours (%s)", f.Name, other)
		}
		seen[f.Name] = f.Name
	}
}
