package pki

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestWhatIsMadeIsLoggedInTwoLines(t *testing.T) {
	cfg := testConfig(t)
	lines := func() []string {
		t.Helper()
		var out bytes.Buffer
		log := logrus.New()
		log.SetOutput(&out)
		log.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
		if _, err := Ensure(cfg, birthday, log.WithField("component", "certificates")); err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	first := lines()
	if len(first) != 2 || !strings.Contains(first[0], "client-ca, request-header-ca, server-ca, service-account key") ||
		!strings.Contains(first[1], "system:admin") || !strings.Contains(first[1], `reason="there was none"`) {
		t.Errorf("a first start logged:\n%s", strings.Join(first, "\n"))
	}
	if second := lines(); second[0] != "" {
		t.Errorf("a second start logged:\n%s", strings.Join(second, "\n"))
	}
}
