package tunnel

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-k8s/skiff/pkg/internal/nstest"
)

// agentVariable makes the test binary an agent; it holds the configuration.
const agentVariable = "SKIFF_TUNNEL_TEST_AGENT"

const (
	serverSide, agentSide = "10.9.0.1", "10.9.0.2"
	kubeletPort           = 10250
)

// agentMain runs an agent, and what stands for its kubelet, until standard
// input ends. It starts with the first line from there.
func agentMain() error {
	var cfg AgentConfig
	if err := json.Unmarshal([]byte(os.Getenv(agentVariable)), &cfg); err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	kubelet, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(kubeletPort)))
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := kubelet.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "the kubelet behind the firewall")
			c.Close()
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	log := logrus.New()
	log.SetLevel(logrus.DebugLevel)
	return NewAgent(cfg, logrus.NewEntry(log)).Run(ctx, func() {})
}

func sh(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// startAgent starts an agent on a host of its own, connected by one cable,
// that lets nobody in.
func startAgent(t *testing.T, cfg AgentConfig) {
	t.Helper()
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), agentVariable+"="+string(config))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent: %v", err)
		}
	})
	inside := fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", cmd.Process.Pid)
	sh(t, fmt.Sprintf("ip link add server type veth peer name agent netns %d && ip addr add %s/24 dev server && ip link set server up", cmd.Process.Pid, serverSide))
	sh(t, inside+"ip link set lo up")
	sh(t, inside+"ip addr add "+agentSide+"/24 dev agent")
	sh(t, inside+"ip link set agent up")
	sh(t, inside+"nft 'add table ip fw; add chain ip fw in { type filter hook input priority 0; policy drop; }; add rule ip fw in iif lo accept; add rule ip fw in ct state established accept'")
	if _, err := io.WriteString(stdin, "\n"); err != nil {
		t.Fatal(err)
	}
}

func TestAnAgentBehindAFirewall(t *testing.T) {
	t.Parallel()
	if _, inside := nstest.Inside(t); !inside {
		return
	}
	files, node := authorities(t, "edge")
	s := newServer(ServerConfig{Mode: ModeAgent, Authorize: byCertificate}, clientset(settings{objects: []*corev1.Node{object("edge", "10.42.0.0/24", kubeletPort, agentSide)}}), quiet())
	run(t, s)
	at, _ := serve(t, files, "0.0.0.0:0", route(s))
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	startAgent(t, AgentConfig{
		ServerCA: node.ServerCA, Cert: node.Kubelet.Cert, Key: node.Kubelet.Key,
		Servers: []string{net.JoinHostPort(serverSide, port)},
		Targets: Targets{Mode: ModeAgent, Kubelet: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), kubeletPort)},
	})
	await(t, func() bool { return s.connected("edge") }, "the agent is connected")

	kubelet := net.JoinHostPort(agentSide, strconv.Itoa(kubeletPort))
	if c, err := net.DialTimeout("tcp", kubelet, time.Second); err == nil {
		c.Close()
		t.Fatal("the firewall lets the server in: this test tests nothing")
	}
	const want = "the kubelet behind the firewall"
	if got, err := whoAnswers(t.Context(), s, kubelet); err != nil || got != want {
		t.Fatalf("%q (%v) answers", got, err)
	}

	// A cable that is cut sends no goodbye. The server must not go on sending
	// requests into it, and the agent must come back by itself.
	sh(t, "ip link set server down")
	cut := time.Now()
	for end := cut.Add(25 * time.Second); s.connected("edge"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server has not noticed for 25 s that the agent is gone")
		}
	}
	t.Logf("noticed after %v", time.Since(cut))
	sh(t, "ip link set server up")
	if got, err := whoAnswers(t.Context(), s, kubelet); err != nil || got != want {
		t.Errorf("after the cable was mended: %q (%v) answers", got, err)
	}
}
