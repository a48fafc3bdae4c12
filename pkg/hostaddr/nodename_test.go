package hostaddr

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestANodeKeepsItsIdentifier(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node", "id")
	first, err := NodeName("edge", file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, "edge-") || len(first) != len("edge-01234567") {
		t.Errorf("the name is %s", first)
	}
	if again, err := NodeName("edge", file); err != nil || again != first {
		t.Errorf("then it is %s, %v", again, err)
	}
	if other, err := NodeName("edge", filepath.Join(t.TempDir(), "id")); err != nil || other == first {
		t.Errorf("another machine is %s, too: %v", other, err)
	}
}

func TestANodesIdentifierThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, []byte("no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NodeName("edge", file); err == nil || !strings.Contains(err.Error(), file+" has to hold 8 hexadecimal digits") {
		t.Errorf("got %v", err)
	}
	if _, err := NodeName(strings.Repeat("a", 60), filepath.Join(t.TempDir(), "id")); err == nil || !strings.Contains(err.Error(), "choose a shorter --node-name") {
		t.Errorf("got %v", err)
	}
}
