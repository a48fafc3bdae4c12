package framework

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A static Go program reads the clock from the kernel's vDSO, where neither a
// library nor a namespace can put another one. So a host with another clock has
// a copy of the program in which Go's function time.now adds a number of
// seconds: three instructions in place of what it does where there is no vDSO.
// Everything else, Kubernetes too, is what was built. The monotonic clock, the
// kernel's timers and child processes keep the machine's time.

var (
	// loadsResult begins the end of time.now: MOVQ 16(SP), AX; MOVQ 24(SP), DI.
	loadsResult = []byte{0x48, 0x8b, 0x44, 0x24, 0x10, 0x48, 0x8b, 0x7c, 0x24, 0x18}
	// fallsBack is the system call without a vDSO, as the assembler may write
	// it: MOVQ $228, AX; SYSCALL.
	fallsBack = [][]byte{
		{0x48, 0xc7, 0xc0, 0xe4, 0x00, 0x00, 0x00, 0x0f, 0x05},
		{0xb8, 0xe4, 0x00, 0x00, 0x00, 0x0f, 0x05},
	}
)

// shiftAt is where, within the instructions that are put in, the seconds are.
const shiftAt = 7

// patch is a place in a file that has other bytes.
type patch struct {
	at   int64
	data []byte
}

// clockShift finds what to change in a program so that its clock is ahead by
// some seconds, and where the seconds are in its memory.
func clockShift(program string, seconds int32) (patches []patch, address uint64, err error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	text, table := f.Section(".text"), f.Section(".gopclntab")
	if f.Machine != elf.EM_X86_64 || text == nil || table == nil {
		return nil, 0, fmt.Errorf("%s is no Go program for amd64", program)
	}
	lines, err := table.Data()
	if err != nil {
		return nil, 0, err
	}
	symbols, err := gosym.NewTable(nil, gosym.NewLineTable(lines, text.Addr))
	if err != nil {
		return nil, 0, err
	}
	now := symbols.LookupFunc("time.now")
	if now == nil {
		return nil, 0, fmt.Errorf("%s has no time.now", program)
	}
	code := make([]byte, now.End-now.Entry)
	if _, err := text.ReadAt(code, int64(now.Entry-text.Addr)); err != nil {
		return nil, 0, err
	}
	load := bytes.Index(code, loadsResult)
	fall := -1
	for _, form := range fallsBack {
		if at := bytes.Index(code, form); at >= 0 {
			fall = at
		}
	}
	if load < 0 || bytes.Count(code, loadsResult) != 1 || fall < load {
		return nil, 0, errors.New("time.now is another than that of Go 1.26: compare runtime/time_linux_amd64.s")
	}
	const loadLength, jumpLength = 5, 5
	jump := func(from, to int) []byte {
		return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(to-from-jumpLength)))
	}
	in := bytes.Clone(loadsResult[:loadLength])
	in = binary.LittleEndian.AppendUint32(append(in, 0x48, 0x05), uint32(seconds)) // ADDQ $seconds, AX
	in = append(in, jump(fall+len(in), load+loadLength)...)
	if fall+len(in) > len(code) {
		return nil, 0, errors.New("time.now leaves no room for another clock")
	}
	start := int64(text.Offset) + int64(now.Entry-text.Addr)
	return []patch{{start + int64(load), jump(load, fall)}, {start + int64(fall), in}}, now.Entry + uint64(fall+shiftAt), nil
}

// writeShifted copies a program to a new file with another clock.
func writeShifted(program, target string, by time.Duration) error {
	patches, _, err := clockShift(program, shiftSeconds(by))
	if err != nil {
		return fmt.Errorf("giving %s another clock: %w", program, err)
	}
	in, err := os.Open(program)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	for _, p := range patches {
		if err == nil {
			_, err = out.WriteAt(p.data, p.at)
		}
	}
	return errors.Join(err, out.Close())
}

func shiftSeconds(by time.Duration) int32 {
	seconds := by / time.Second
	if seconds > math.MaxInt32 || seconds < math.MinInt32 {
		panic("a clock can be ahead or behind by 68 years")
	}
	return int32(seconds)
}

// clocks is the directory in a host of programs with other clocks.
const clocks = "/opt/clocks"

// SetClock has every skiff that is started in the host from now on live that
// much ahead of the machine, or behind it.
func (h *Host) SetClock(t testing.TB, by time.Duration) {
	t.Helper()
	if err := h.setClock(t.Context(), by); err != nil {
		t.Fatal(err)
	}
}

func (h *Host) setClock(ctx context.Context, by time.Duration) error {
	dir := filepath.Join(clocks, fmt.Sprint(shiftSeconds(by)))
	target := filepath.Join(h.Path(dir), "skiff")
	if _, err := os.Stat(target); err != nil {
		if _, err := h.Try(ctx, nil, "mkdir", "-p", dir); err != nil {
			return err
		}
		if err := writeShifted(h.suite.binary, target, by); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.env = []string{"PATH=" + dir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return nil
}

// SetClock moves the clock of a running daemon that was started on a host with
// a clock of its own.
func (d *Daemon) SetClock(t testing.TB, by time.Duration) {
	t.Helper()
	_, address, err := clockShift(d.Host.suite.binary, 0)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.OpenFile(filepath.Join(d.Host.Path("/proc"), fmt.Sprint(d.PID), "mem"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	if _, err := memory.WriteAt(binary.LittleEndian.AppendUint32(nil, uint32(shiftSeconds(by))), int64(address)); err != nil {
		t.Fatal(err)
	}
}

// environment is what every command in the host is started with.
func (h *Host) environment(extra []string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append([]string(nil), h.env...), extra...)
}
