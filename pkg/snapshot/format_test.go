package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample writes a snapshot with keys of all sizes and gives its bytes.
func sample(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		kv := &mvccpb.KeyValue{Key: fmt.Appendf(nil, "/k/%d", i), Value: bytes.Repeat([]byte{byte(i)}, i*i*20), CreateRevision: 2, ModRevision: int64(i + 3), Version: 2}
		if err := w.Add(kv); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(Metadata{Name: "n", Created: time.Unix(1, 0).UTC(), Revision: 99, Sealed: []byte("sealed")}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write1(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a"+Suffix)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASnapshotGivesWhatWasWritten(t *testing.T) {
	f, err := Open(write1(t, sample(t)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Keys != 50 || f.Revision != 99 || string(f.Sealed) != "sealed" || f.Name != "n" {
		t.Errorf("the metadata is %+v", f.Metadata)
	}
	i := 0
	for kv, err := range f.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if string(kv.Key) != fmt.Sprintf("/k/%d", i) || len(kv.Value) != i*i*20 || kv.ModRevision != int64(i+3) || kv.CreateRevision != 2 {
			t.Fatalf("record %d is %v", i, kv)
		}
		i++
	}
	for range f.Records() {
		break // whoever has enough may stop
	}
	if i != 50 {
		t.Errorf("there are %d records", i)
	}
}

func TestAnyCutAndAnyChangeIsFound(t *testing.T) {
	whole := sample(t)
	path := filepath.Join(t.TempDir(), "a"+Suffix)
	check := func(what string, data []byte, want ...error) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.Path != path {
			t.Fatalf("%s: got %v", what, err)
		}
		for _, w := range want {
			if errors.Is(err, w) {
				return
			}
		}
		t.Fatalf("%s: got %v, want one of %v", what, err, want)
	}
	for n := 0; n < len(whole); n += 1 + n/200 {
		if n == 0 {
			check("nothing", nil, ErrForeign)
			continue
		}
		check(fmt.Sprintf("the first %d bytes", n), whole[:n], ErrCut)
	}
	for at := 0; at < len(whole); at += 1 + at/300 {
		data := bytes.Clone(whole)
		data[at] ^= 0x20
		check(fmt.Sprintf("byte %d changed", at), data, ErrForeign, ErrNewer, ErrCut, ErrAltered)
	}
	check("something behind", append(bytes.Clone(whole), "x"...), ErrCut)
	check("a page in the middle missing", append(bytes.Clone(whole[:500]), whole[600:]...), ErrAltered)
	check("another program's file", []byte("SQLite format 3\x00 and so on, and so on"), ErrForeign)
	check("a later version", append([]byte(family+"2\n"), whole[len(magic):]...), ErrNewer)
}

func TestNamesOfASeriesAreToldFromOthers(t *testing.T) {
	at := time.Date(2026, 3, 14, 9, 15, 0, 0, time.UTC)
	name := NameOf("snapshot", "a", at)
	if name != "snapshot-a-20260314-091500" {
		t.Fatalf("the name is %s", name)
	}
	if got, ok := ofSeries(name, "snapshot", "a"); !ok || !got.Equal(at) {
		t.Errorf("%s is not of its series: %v", name, got)
	}
	for _, other := range []string{NameOf("snapshot", "a-b", at), NameOf("snapshot-a", "a", at), "snapshot-a-", "snapshot-a-20260314-0915xx"} {
		if _, ok := ofSeries(other, "snapshot", "a"); ok {
			t.Errorf("%s passes for one of node a", other)
		}
	}
}

func TestTheNewestOfEachPlaceStay(t *testing.T) {
	var all []Info
	for i := range 4 {
		at := time.Date(2026, 1, 10-i, 0, 0, 0, 0, time.UTC)
		for _, node := range []string{"a", "b"} {
			all = append(all, Info{Name: NameOf("s", node, at), Place: Local}, Info{Name: NameOf("s", node, at), Place: S3})
		}
		all = append(all, Info{Name: NameOf(OnDemand, "a", at), Place: Local})
	}
	var got []string
	for _, i := range surplus(all, "s", "a", func(p Place) int { return map[Place]int{Local: 2, S3: 3}[p] }) {
		got = append(got, string(i.Place)+" "+i.Name)
	}
	want := "[local s-a-20260108-000000 local s-a-20260107-000000 s3 s-a-20260107-000000]"
	if fmt.Sprint(got) != want {
		t.Errorf("would delete %v, want %s", got, want)
	}
}

func TestObjectNamesAreThoseOfObjects(t *testing.T) {
	for name, want := range map[string]string{
		"local-a-b.c":  "local-a-b.c",
		"local-Über_x": "local--ber-x-",
	} {
		got := objectName(name)
		if got != want && (want[len(want)-1] != '-' || len(got) != len(want)+8) {
			t.Errorf("%s becomes %s", name, got)
		}
	}
}
