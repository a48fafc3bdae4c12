package main

import (
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestNumbersOfAgentsAndServicesAreChosen(t *testing.T) {
	o, err := parse([]string{"-agents", "1,255", "-services", "10"})
	if err != nil || len(o.agents) != 2 || len(o.services) != 1 {
		t.Errorf("%v, %v, %v", err, o.agents, o.services)
	}
	_, err = parse([]string{"-agents", "256"})
	if err == nil || !strings.Contains(err.Error(), "256 is too much for -agents") {
		t.Errorf("error %v", err)
	}
}

func TestOnlyReadyAgentsAreCounted(t *testing.T) {
	node := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: kind, Status: status}}}}
	}
	all := map[string]bool{
		"a": isReady(node(corev1.NodeReady, corev1.ConditionTrue)),
		"b": isReady(node(corev1.NodeReady, corev1.ConditionUnknown)),
		"c": isReady(node(corev1.NodeMemoryPressure, corev1.ConditionTrue)),
		"d": isReady(&corev1.Node{}),
	}
	if n := trues(all); n != 1 || !all["a"] {
		t.Errorf("%d are Ready: %v", n, all)
	}
}

func TestProbesTellWhoAnswers(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go send(l, 1)
	if err := probe(t.Context(), l.Addr().String(), 1); err != nil {
		t.Error(err)
	}
	if err := probe(t.Context(), l.Addr().String(), 0); err == nil || !strings.Contains(err.Error(), "the answer is 1") {
		t.Errorf("error %v", err)
	}
	l.Close()
	if err := probe(t.Context(), l.Addr().String(), 1); err == nil {
		t.Error("nobody listens, and there is an answer")
	}
}
