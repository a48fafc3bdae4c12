// Package artifact tests what the build leaves in bin/skiff: that it is static
// and stamped, that the helper programs inside are the right ones, and that a
// launcher starts it. It needs the built binary and neither root nor network.
package artifact

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/skiff-k8s/skiff/pkg/embedded"
	"github.com/skiff-k8s/skiff/pkg/embedded/pack"
	"github.com/skiff-k8s/skiff/pkg/layout"
)

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SKIFF_BIN")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "skiff")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SKIFF_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skipf("there is no %s: run make build first, or name a binary with SKIFF_BIN", path)
	}
	return path
}

func helpers(t *testing.T) embedded.Dir {
	t.Helper()
	p, err := embedded.OpenFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dir, err := p.Helpers(t.Context(), layout.Layout{Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// module finds the version that one of the repository's go.mod files pins.
func module(t *testing.T, file, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(regexp.QuoteMeta(name) + ` v(\S+)`).FindSubmatch(data)
	if found == nil {
		t.Fatalf("%s does not require %s", file, name)
	}
	return string(found[1])
}

func TestProgramsAreStatic(t *testing.T) {
	dir := helpers(t)
	for _, path := range []string{binary(t), dir.Runc(), dir.Shim(), filepath.Join(dir.CNIBin(), "bridge")} {
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s needs a dynamic linker", path)
			}
		}
	}
}

func TestProgramIsStampedWithKubernetesVersion(t *testing.T) {
	want := "v" + module(t, "go.mod", "k8s.io/kubernetes") + "+skiff"
	var version struct {
		ClientVersion struct{ GitVersion, Major, Minor, GitCommit, BuildDate string }
	}
	out := output(t, nil, binary(t), "kubectl", "version", "--client", "-o", "json")
	if err := json.Unmarshal([]byte(out), &version); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	v := version.ClientVersion
	if !strings.HasPrefix(v.GitVersion, want) {
		t.Errorf("kubectl says it is %s, want %s...", v.GitVersion, want)
	}
	if v.Major != "1" || !strings.HasPrefix(want, "v1."+v.Minor+".") || v.GitCommit == "" || strings.HasPrefix(v.BuildDate, "1970") {
		t.Errorf("the stamp is incomplete: %+v", v)
	}
}

func TestRuncHasSeccomp(t *testing.T) {
	runc := helpers(t).Runc()
	if out, want := output(t, nil, runc, "--version"), "runc version "+module(t, "scripts/payload/runc/go.mod", "opencontainers/runc"); !strings.Contains(out, want) {
		t.Errorf("want %s, got %s", want, out)
	}
	var features struct {
		Linux struct{ Seccomp, SELinux, AppArmor struct{ Enabled bool } }
	}
	out := output(t, nil, runc, "features")
	if err := json.Unmarshal([]byte(out), &features); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if !features.Linux.Seccomp.Enabled || !features.Linux.AppArmor.Enabled || !features.Linux.SELinux.Enabled {
		t.Errorf("runc was built without something: %+v", features.Linux)
	}
}

func TestShimIsOfTheContainerdInside(t *testing.T) {
	want := "v" + module(t, "go.mod", "containerd/containerd/v2")
	if out := output(t, nil, helpers(t).Shim(), "-v"); !strings.Contains(out, want) {
		t.Errorf("want %s, got %s", want, out)
	}
}

func TestPluginsAnswer(t *testing.T) {
	dir := helpers(t)
	for _, name := range append(embedded.CNIPlugins(), "bandwidth") {
		out := output(t, []string{"CNI_COMMAND=VERSION"}, filepath.Join(dir.CNIBin(), name))
		if !strings.Contains(out, `"1.1.0"`) {
			t.Errorf("%s does not speak CNI 1.1.0: %s", name, out)
		}
	}
}

func TestPauseImageHasItsName(t *testing.T) {
	data, err := os.ReadFile(helpers(t).PauseImage())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), embedded.PauseImageName) {
		t.Errorf("%s is not in the archive", embedded.PauseImageName)
	}
}

func TestLauncherBecomesTheProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("packs the whole program")
	}
	program, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	launcher, released := filepath.Join(dir, "launcher"), filepath.Join(dir, "skiff")
	output(t, []string{"CGO_ENABLED=0"}, "go", "build", "-o", launcher, "../../cmd/launcher")
	if err := pack.AppendFile(released, launcher, "program", []pack.File{{Name: "bin/skiff", Mode: 0o755, Data: program}}); err != nil {
		t.Fatal(err)
	}
	data := []string{"SKIFF_DATA_DIR=" + filepath.Join(dir, "data")}
	want := output(t, nil, binary(t), "--version")
	for _, start := range []string{"the first start", "a later start"} {
		if got := output(t, data, released, "--version"); got != want {
			t.Errorf("%s said %q, want %q", start, got, want)
		}
	}
	// Under another name it is another program.
	kubectl := filepath.Join(dir, "kubectl")
	if err := os.Symlink(released, kubectl); err != nil {
		t.Fatal(err)
	}
	if got := output(t, data, kubectl, "version", "--client"); !strings.Contains(got, "Client Version") {
		t.Errorf("called as kubectl it said %q", got)
	}
	found, err := filepath.Glob(filepath.Join(dir, "data", "data", "*", "bin", "skiff"))
	if err != nil || len(found) != 2 { // the directory by its content, and the link to it
		t.Errorf("the program was unpacked as %q, %v", found, err)
	}
}
