package agent

import "testing"

func TestKubeletAddress(t *testing.T) {
	for _, tt := range []struct {
		name  string
		extra []string
		want  string
	}{
		{"the default", nil, "127.0.0.1:10250"},
		{"another port", []string{"port=10255", "port=11250"}, "127.0.0.1:11250"},
		{"one address only", []string{"address=192.0.2.1"}, "192.0.2.1:10250"},
		{"all addresses", []string{"address=0.0.0.0"}, "127.0.0.1:10250"},
		{"all addresses, of IPv6 too", []string{"address=::"}, "127.0.0.1:10250"},
	} {
		if got := kubeletAddress(tt.extra).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
