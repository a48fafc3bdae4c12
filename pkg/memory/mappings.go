package memory

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is a part of the process' address space, as /proc/self/maps has it.
type mapping struct{ start, end uintptr }

// programMappings are the mappings of the program's own file that nothing is
// ever written to: code and constants.
func programMappings(maps io.Reader, program string) ([]mapping, error) {
	var found []mapping
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// start-end permissions offset device inode path, see proc_pid_maps(5)
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[5] != program || (fields[1] != "r--p" && fields[1] != "r-xp") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the memory mappings: %w", err)
		}
		end, err := strconv.ParseUint(to, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the memory mappings: %w", err)
		}
		found = append(found, mapping{uintptr(start), uintptr(end)})
	}
	return found, lines.Err()
}

// forgetProgram takes the pages of the program that are in memory out of the
// process. Those in use come back at the next touch, from the page cache; what
// only the start needed no longer keeps the kernel from giving them to others.
func forgetProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("looking for the program's file: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("reading the memory mappings: %w", err)
	}
	defer maps.Close()
	mappings, err := programMappings(maps, program)
	if err != nil {
		return err
	}
	for _, m := range mappings {
		// What was never written to loses nothing: MADV_DONTNEED in madvise(2).
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("giving back the program's pages: %w", errno)
		}
	}
	return nil
}
