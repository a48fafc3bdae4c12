package translate

import "testing"

func TestOnlyKubectlIsTranslated(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want bool
	}{
		"skiff kubectl":               {[]string{"skiff", "kubectl", "get"}, true},
		"kubectl":                     {[]string{"/usr/local/bin/kubectl", "get"}, true},
		"completion of skiff kubectl": {[]string{"skiff", "__complete", "kubectl", "g"}, true},
		"a server":                    {[]string{"skiff", "server", "--node-name", "kubectl"}, false},
		"nothing at all":              {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kubectl(c.args); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
