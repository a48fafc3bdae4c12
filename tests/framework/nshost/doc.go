// Package nshost makes hosts out of namespaces: a machine inside the machine
// with its own network, mount, pid, uts, ipc and cgroup namespaces, its own
// /etc, /var, /run, /tmp and /root on the machine's disk, and a tiny init that
// reaps orphans and starts processes on request. Nothing that runs inside can
// see or change the machine's links, mounts, cgroups or files.
//
// It needs root. Test code reaches it through tests/framework; the devhost
// command uses it directly. It imports only nameserver.
package nshost
