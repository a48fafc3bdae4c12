package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/skiff-k8s/skiff/scripts/imagetar"
)

type files []imagetar.File

// unneeded are directories of packages that no test looks into.
var unneeded = []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "usr/share/lintian/", "usr/share/perl5/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/aarch64-linux-gnu/gconv/"}

// unpack gives the files of all packages in a directory. Maintainer scripts do
// not run: withUsers and withApplets bring what is needed of them.
func unpack(dir string) (files, error) {
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return nil, err
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("there are no Debian packages in %s: run make conformance where apt-get can reach a mirror once", dir)
	}
	var all files
	for _, p := range packages {
		out, err := exec.Command("dpkg-deb", "--fsys-tarfile", p).Output()
		if err == nil {
			all, err = all.add(out)
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", p, err)
		}
	}
	return all, nil
}

func (f files) add(archive []byte) (files, error) {
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return f, err
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "/")
		if name == "." || slices.ContainsFunc(unneeded, func(dir string) bool { return strings.HasPrefix(name, dir) }) {
			continue
		}
		file := imagetar.File{Path: name, Mode: h.FileInfo().Mode()}
		switch h.Typeflag {
		case tar.TypeReg:
			if file.Data, err = io.ReadAll(r); err != nil {
				return f, err
			}
		case tar.TypeSymlink:
			file.Data = []byte(h.Linkname)
		case tar.TypeLink:
			file.Data = f.data(path.Clean(h.Linkname))
		case tar.TypeDir:
		default:
			return f, fmt.Errorf("%s is of the unexpected kind %q", name, h.Typeflag)
		}
		f = append(f, file)
	}
}

func (f files) data(name string) []byte {
	for _, file := range f {
		if file.Path == name {
			return file.Data
		}
	}
	return nil
}

// minimal are the files of an image that is busybox and bash.
var minimal = regexp.MustCompile(`^(bin/busybox|bin/bash|(lib|lib64|usr/lib)/.*/?(ld-linux-[^/]*|libc\.so\.6|libtinfo\.so\.6[^/]*))$`)

// only keeps the files whose path matches.
func only(f files, pattern *regexp.Regexp) files {
	return slices.DeleteFunc(slices.Clone(f), func(file imagetar.File) bool { return !pattern.MatchString(file.Path) })
}

func link(name, target string) imagetar.File {
	return imagetar.File{Path: name, Mode: fs.ModeSymlink | 0o777, Data: []byte(target)}
}

// applets are the programs that pods of the tests call and that busybox has.
const applets = `ash awk base64 basename cat chgrp chmod chown chroot cksum clear cmp cp cut date dd df diff dirname
dmesg dnsdomainname du echo egrep env expand expr false fgrep find fold free ftpget fuser getopt grep groups gunzip gzip
head hexdump hostid hostname httpd id ifconfig install ip ipcalc kill killall less ln logger ls lsof md5sum mkdir mkfifo
mknod mktemp more mount mountpoint mv nc netstat nice nohup nproc nslookup od paste pgrep pidof ping ping6 pkill pmap
printenv printf ps pwd readlink realpath renice reset rev rm rmdir route sed seq setsid sha1sum sha256sum sha512sum
sleep sort split stat strings stty su sum sync sysctl tac tail tar tee telnet test time timeout top touch tr traceroute
true tty umount uname uniq uptime usleep vi watch wc wget which whoami xargs yes zcat`

// withBash adds the shell of an image that is Debian. Debian's busybox as a
// shell would take its own applets whatever PATH says.
func withBash(f files) files { return append(slices.Clone(f), link("bin/sh", "bash")) }

// withAsh adds the shells of an image that is busybox. A test compares what
// /bin/sh says of a file that it cannot write, and only busybox says it so.
// Others let sh, as PATH finds it, pass variables on whose names no shell could
// assign to: upstream's busybox does so and Debian's does not, but bash does.
func withAsh(f files) files {
	return append(slices.Clone(f), link("bin/sh", "busybox"), link("usr/local/bin/sh", "/bin/bash"))
}

// withApplets adds them where no package has a program of that name.
func withApplets(f files) files {
	have := map[string]bool{}
	for _, file := range f {
		if dir := path.Dir(file.Path); path.Base(dir) == "bin" || path.Base(dir) == "sbin" {
			have[path.Base(file.Path)] = true
		}
	}
	f = slices.Clone(f)
	for applet := range strings.FieldsSeq(applets) {
		if !have[applet] {
			f = append(f, link("bin/"+applet, "busybox"))
		}
	}
	return f
}

const passwd = `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
`

const group = `root:x:0:
nogroup:x:65534:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
`

// withUsers adds what a running system has and packages do not carry. The
// users are those of agnhost's Dockerfile.
func withUsers(f files) files {
	return append(slices.Clone(f),
		imagetar.File{Path: "etc/passwd", Mode: 0o644, Data: []byte(passwd)},
		imagetar.File{Path: "etc/group", Mode: 0o644, Data: []byte(group)},
		imagetar.File{Path: "etc/nsswitch.conf", Mode: 0o644, Data: []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
		imagetar.File{Path: "root", Mode: fs.ModeDir | 0o700},
		imagetar.File{Path: "home/user-defined-in-image", Mode: fs.ModeDir | 0o755},
		imagetar.File{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		imagetar.File{Path: "var/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	)
}
