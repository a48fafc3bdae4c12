#!/bin/sh
# Installs Skiff as a service of systemd or OpenRC, and starts it. It asks no
# questions and may be run again at any time: to update, or to change settings.
#
#   curl -sfL https://.../install.sh | sudo sh -                      a server
#   ... | sudo SKIFF_URL=https://SERVER:6443 SKIFF_TOKEN=... sh -     an agent
#   sudo INSTALL_SKIFF_FILE=./skiff sh install.sh                     without a network
#   sudo sh install.sh server --node-label zone=a                     with arguments
#
# Arguments are those of `skiff server` or `skiff agent`. Without any, an
# earlier installation keeps the arguments that it has; `server` or `agent`
# alone takes them away.
#
# SKIFF_*, CONTAINERD_*, HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment
# are written to /etc/skiff/SERVICE.env, which only root can read, for the
# service. Those of an earlier installation stay; an empty one takes it away. A
# token among the arguments goes there too, out of the process list.
#
#   INSTALL_SKIFF_FILE=path        install this file instead of a release
#   INSTALL_SKIFF_URL=url          where releases are; below it the script gets
#                                  download/VERSION/skiff-linux-ARCH and .sha256,
#                                  or latest/download/...
#                                  (https://github.com/skiff-k8s/skiff/releases)
#   INSTALL_SKIFF_VERSION=v1.2.3   this release instead of the latest
#   INSTALL_SKIFF_SKIP_DOWNLOAD=true  keep the program that is installed
#   INSTALL_SKIFF_EXEC="..."       arguments, in front of those of the script
#   INSTALL_SKIFF_NAME=name        call the service skiff-name (skiff, skiff-agent)
#   INSTALL_SKIFF_BIN_DIR=dir      for the program (/usr/local/bin, else /opt/bin)
#   INSTALL_SKIFF_SYSTEMD_DIR=dir  for the unit (/etc/systemd/system)
#   INSTALL_SKIFF_TYPE=type        Type= of the unit (notify)
#   INSTALL_SKIFF_INIT=systemd|openrc  instead of what runs here
#   INSTALL_SKIFF_SYMLINK=skip|force   no links kubectl and ctr; links even
#                                  where there are such programs already
#   INSTALL_SKIFF_SKIP_ENABLE=true do not start it at boot, nor now
#   INSTALL_SKIFF_SKIP_START=true  do not start it now
#   INSTALL_SKIFF_FORCE_RESTART=true  restart it even if nothing has changed

say() { printf 'skiff: %s\n' "$*"; }

fail() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}

# yes NAME VALUE: whether a setting is on. What is neither yes nor no is refused.
yes() {
	case $2 in
	true | 1 | yes) return 0 ;;
	'' | false | 0 | no) return 1 ;;
	esac
	fail "$1=$2 is neither true nor false"
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0" 2>/dev/null || say "see the beginning of install.sh"; }

newline='
'
marker="# Written by Skiff's install.sh; run that again to change it."

# --- where ------------------------------------------------------------------

find_init() {
	init=${INSTALL_SKIFF_INIT:-}
	systemd_dir=${INSTALL_SKIFF_SYSTEMD_DIR:-/etc/systemd/system}
	if [ -z "$init" ]; then
		if [ -d /run/systemd/system ]; then
			init=systemd
		elif [ -e /run/openrc/softlevel ]; then
			init=openrc
		elif command -v systemctl >/dev/null 2>&1; then
			init=systemd
		elif command -v openrc-run >/dev/null 2>&1; then
			init=openrc
		else
			fail "this machine has neither systemd nor OpenRC to run a service: copy the program to /usr/local/bin and run skiff server as you run other services"
		fi
	fi
	start=true
	if yes INSTALL_SKIFF_SKIP_START "${INSTALL_SKIFF_SKIP_START:-}"; then start=false; fi
	enable=true
	if yes INSTALL_SKIFF_SKIP_ENABLE "${INSTALL_SKIFF_SKIP_ENABLE:-}"; then enable=false start=false; fi
	case $init in
	systemd) running=/run/systemd/system ;;
	openrc) running=/run/openrc ;;
	*) fail "INSTALL_SKIFF_INIT=$init: it is systemd or openrc" ;;
	esac
	if $start && [ ! -d $running ]; then
		fail "$init does not run here, so it cannot start Skiff: INSTALL_SKIFF_SKIP_START=true writes the files only"
	fi
}

find_bin_dir() {
	bin=${INSTALL_SKIFF_BIN_DIR:-}
	if [ -z "$bin" ]; then
		bin=/usr/local/bin
		if [ ! -w "$(near $bin)" ]; then bin=/opt/bin; fi
	fi
	case $bin in
	/*) ;;
	*) fail "INSTALL_SKIFF_BIN_DIR=$bin: give the whole path" ;;
	esac
	case $bin$systemd_dir in
	*[!A-Za-z0-9._/-]*) fail "$bin, $systemd_dir: letters, digits and . _ - make the names of these directories" ;;
	esac
	case ${INSTALL_SKIFF_TYPE:-notify} in
	notify | exec | simple) ;;
	*) fail "INSTALL_SKIFF_TYPE=$INSTALL_SKIFF_TYPE: it is notify, exec or simple" ;;
	esac
	[ -w "$(near "$bin")" ] || fail "$bin cannot be written to: choose another directory with INSTALL_SKIFF_BIN_DIR"
}

# near DIR: the directory, or the nearest one above it that exists.
near() {
	near=$1
	while [ ! -d "$near" ]; do near=$(dirname "$near"); done
	echo "$near"
}

# find_earlier sets what an earlier run has left: its service file, name, role
# and arguments, one a line.
find_earlier() {
	earlier='' earlier_name='' earlier_role='' earlier_args=''
	for file in "$systemd_dir"/skiff*.service /etc/init.d/skiff*; do
		# Others may have services whose names begin so.
		grep -qsxF "$marker" "$file" || continue
		[ -z "$earlier" ] || fail "$earlier and $file are both there, and a machine is one node: remove one with skiff-uninstall.sh or by hand"
		earlier=$file
	done
	[ -n "$earlier" ] || return 0
	earlier_name=${earlier##*/}
	earlier_name=${earlier_name%.service}
	earlier_args=$(sed -n 's/^#| //p' "$earlier")
	earlier_role=${earlier_args%%"$newline"*}
	case $earlier_role in
	server | agent) ;;
	*) fail "$earlier does not say what it runs: run skiff-uninstall.sh, which keeps nothing, or repair the lines that begin with #|" ;;
	esac
}

# --- what ---------------------------------------------------------------------

# choose_args sets role, name and args (one a line, the role first) from the
# arguments of the script.
choose_args() {
	# shellcheck disable=SC2086 # the variable holds several arguments
	set -f && set -- ${INSTALL_SKIFF_EXEC:-} "$@" && set +f
	role=''
	case ${1:-} in
	server | agent)
		role=$1
		shift
		;;
	'' | -*) ;;
	*) fail "$1 is neither server nor agent, nor a flag of theirs" ;;
	esac
	if [ $# -eq 0 ] && [ -z "$role" ] && [ -n "$earlier" ]; then
		kept=true
	else
		kept=false
	fi
	if [ -z "$role" ]; then
		role=server
		if [ -n "${SKIFF_URL:-}" ]; then
			role=agent
		elif [ -n "$earlier" ]; then
			role=$earlier_role
		fi
	fi
	if [ -n "$earlier" ] && [ "$role" != "$earlier_role" ]; then
		fail "this machine is installed as $earlier_role ($earlier), and is to become $role: run skiff-uninstall.sh first, which removes its data too"
	fi
	name=skiff
	[ "$role" = server ] || name=skiff-agent
	[ -z "${INSTALL_SKIFF_NAME:-}" ] || name=skiff-${INSTALL_SKIFF_NAME#skiff-}
	if [ -z "${INSTALL_SKIFF_NAME:-}" ] && [ -n "$earlier" ]; then name=$earlier_name; fi
	case $name in
	*[!A-Za-z0-9_-]*) fail "INSTALL_SKIFF_NAME=$INSTALL_SKIFF_NAME: letters, digits, - and _ make a name" ;;
	esac
	if [ -n "$earlier" ] && [ "$name" != "$earlier_name" ]; then
		fail "this machine runs $earlier_name already, and is one node: run skiff-uninstall.sh first, or leave INSTALL_SKIFF_NAME out"
	fi
	case $init in
	systemd) service_file=$systemd_dir/$name.service mode=0644 ;;
	openrc) service_file=/etc/init.d/$name mode=0755 ;;
	esac
	if [ -z "$earlier" ] && [ -e "$service_file" ]; then
		fail "$service_file is there and was not made by install.sh: take it away first, or choose another name with INSTALL_SKIFF_NAME"
	fi
	if $kept; then
		args=$earlier_args
		return 0
	fi
	args=$role
	take_args "$@"
}

# take_args adds arguments to args, but for secrets, which become variables.
take_args() {
	while [ $# -gt 0 ]; do
		case $1 in
		'' | *"$newline"*) fail "an argument is empty or has a line break in it, which a service file cannot have" ;;
		--token | -t | -token | --agent-token | -agent-token)
			[ $# -gt 1 ] || fail "$1 needs a value"
			keep_secret "$1=$2"
			shift
			;;
		--token=* | -t=* | -token=* | --agent-token=* | -agent-token=*) keep_secret "$1" ;;
		*) args=$args$newline$1 ;;
		esac
		shift
	done
}

keep_secret() {
	case $1 in
	*agent-token=*) SKIFF_AGENT_TOKEN=${1#*=} && export SKIFF_AGENT_TOKEN ;;
	*) SKIFF_TOKEN=${1#*=} && export SKIFF_TOKEN ;;
	esac
}

# each COMMAND...: runs the command with all arguments but the role added.
each() {
	set -f
	IFS=$newline
	for a in ${args#"$role"}; do set -- "$@" "$a"; done
	set +f
	unset IFS
	"$@"
}

# write_env writes the variables of the service: those of an earlier run, and
# over them those of now.
write_env() {
	env_file=/etc/skiff/$name.env
	names=$(env | sed -n 's/^\(SKIFF_[A-Za-z0-9_]*\|CONTAINERD_[A-Za-z0-9_]*\|[Hh][Tt][Tt][Pp][Ss]\{0,1\}_[Pp][Rr][Oo][Xx][Yy]\|[Nn][Oo]_[Pp][Rr][Oo][Xx][Yy]\)=.*/\1/p' | sort -u)
	for n in $names; do
		eval "value=\${$n-}"
		case $value in
		*"'"* | *"$newline"*) fail "$n has a quote or a line break in it, which a file of variables cannot have: write it into /etc/skiff/config.yaml" ;;
		esac
	done
	(
		umask 077
		if [ -f "$env_file" ]; then
			while IFS= read -r line; do
				# shellcheck disable=SC2086 # names are words
				stays "${line%%=*}" $names && printf '%s\n' "$line"
			done <"$env_file"
		fi
		for n in $names; do
			eval "value=\${$n-}"
			[ -n "$value" ] || continue
			printf "%s='%s'\n" "$n" "$value"
		done
	) >"$work/env" || exit 1
}

# stays NAME OTHERS...: whether a variable is none of the others.
stays() {
	kept_name=$1
	shift
	for other; do
		[ "$kept_name" != "$other" ] || return 1
	done
}

has() { grep -q "^$1=" "$work/env"; }

# check_agent refuses halves of what an agent needs, before skiff does so in
# words that know nothing of this script.
check_agent() {
	case ${SKIFF_URL:-https://} in
	https://*) ;;
	*) fail "SKIFF_URL=$SKIFF_URL: an agent joins a server by https, as in https://192.0.2.10:6443" ;;
	esac
	if [ "$role" = server ]; then
		if has SKIFF_URL; then fail "SKIFF_URL is for agents: leave it out, or leave the word server out"; fi
		return 0
	fi
	# A machine that has joined needs no token any more.
	if [ -e "${SKIFF_DATA_DIR:-/var/lib/skiff}/agent/cluster.json" ]; then return 0; fi
	if has SKIFF_URL && ! has SKIFF_TOKEN && ! has SKIFF_TOKEN_FILE && ! given token-file && ! given token; then
		fail "SKIFF_URL is set and SKIFF_TOKEN is not: it is in /var/lib/skiff/server/token on the server"
	fi
}

# given KEY: whether a setting is among the arguments or in a configuration file.
given() {
	printf '%s\n' "$args" | grep -q -e "^--$1\$" -e "^--$1=" || cat /etc/skiff/config.yaml /etc/skiff/config.yaml.d/*.y*ml 2>/dev/null | grep -q "^$1+\{0,1\}:"
}

# --- the program ----------------------------------------------------------------

get_program() {
	if yes INSTALL_SKIFF_SKIP_DOWNLOAD "${INSTALL_SKIFF_SKIP_DOWNLOAD:-}"; then
		[ -x "$bin/skiff" ] || fail "INSTALL_SKIFF_SKIP_DOWNLOAD is set and there is no $bin/skiff: leave it out, or name a file with INSTALL_SKIFF_FILE"
		ln "$bin/skiff" "$work/skiff" 2>/dev/null || cp "$bin/skiff" "$work/skiff"
	elif [ -n "${INSTALL_SKIFF_FILE:-}" ]; then
		[ -f "$INSTALL_SKIFF_FILE" ] || fail "INSTALL_SKIFF_FILE=$INSTALL_SKIFF_FILE: there is no such file"
		cp "$INSTALL_SKIFF_FILE" "$work/skiff"
	else
		download_program
	fi
	chmod 0755 "$work/skiff"
	# A released program unpacks itself below its data directory, which has to
	# stay untouched until everything has been checked.
	version=$(SKIFF_DATA_DIR="$work/data" "$work/skiff" version 2>&1) ||
		fail "this program does not run here: $(printf '%s' "$version" | head -n 1) (is it for another processor than $(uname -m)?)"
	program=$work/skiff
	for unpacked in "$work"/data/data/*/bin/skiff; do
		[ ! -x "$unpacked" ] || program=$unpacked
	done
}

download_program() {
	case $(uname -m) in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) fail "there is no release of Skiff for $(uname -m): build one, and name it with INSTALL_SKIFF_FILE" ;;
	esac
	command -v sha256sum >/dev/null 2>&1 || fail "sha256sum is missing, and what is downloaded has to be checked: install coreutils or busybox"
	base=${INSTALL_SKIFF_URL:-https://github.com/skiff-k8s/skiff/releases}
	if [ -n "${INSTALL_SKIFF_VERSION:-}" ]; then
		from=$base/download/$INSTALL_SKIFF_VERSION/skiff-linux-$arch
	else
		from=$base/latest/download/skiff-linux-$arch
	fi
	download "$from.sha256" "$work/sha256"
	want=$(cut -c1-64 <"$work/sha256" | head -n 1)
	case $want in
	*[!0-9a-f]* | '') fail "$from.sha256 is not a SHA-256 sum" ;;
	esac
	# The installed file may be this release already.
	if [ -f "$bin/skiff" ] && [ "$(sha256sum <"$bin/skiff" | cut -c1-64)" = "$want" ]; then
		ln "$bin/skiff" "$work/skiff" 2>/dev/null || cp "$bin/skiff" "$work/skiff"
		return 0
	fi
	say "downloading $from"
	download "$from" "$work/skiff"
	have=$(sha256sum <"$work/skiff" | cut -c1-64)
	[ "$have" = "$want" ] || fail "what came from $from is damaged: its SHA-256 sum is $have, and should be $want; nothing was installed"
}

download() {
	if command -v curl >/dev/null 2>&1; then
		curl -fsSL --retry 3 -o "$2" "$1" || fail "$1 could not be downloaded (without a network, name a file with INSTALL_SKIFF_FILE)"
	elif command -v wget >/dev/null 2>&1; then
		wget -q -O "$2" "$1" || fail "$1 could not be downloaded (without a network, name a file with INSTALL_SKIFF_FILE)"
	else
		fail "neither curl nor wget is installed: install one, or name a file with INSTALL_SKIFF_FILE"
	fi
}

# check_configuration asks the new program whether it would start like this.
check_configuration() {
	set -- "$program" config check
	if [ "$role" = agent ]; then set -- "$@" --agent; fi
	said=$(
		set -a
		# shellcheck source=/dev/null
		. "$work/env"
		set +a
		each "$@" 2>&1
	) || fail "Skiff would not start like this; nothing was installed:$newline$said"
}

# --- the service ------------------------------------------------------------------

# comment writes the arguments for the next run.
comment() {
	echo "$marker"
	printf '%s\n' "$args" | sed 's/^/#| /'
}

# quoted FORMAT: the arguments on one line, quoted for systemd or for a shell.
quoted() {
	case $1 in
	systemd) printf '%s\n' "$args" | sed -e 's/[\\"]/\\&/g' -e 's/\$/$$/g' -e 's/%/%%/g' -e 's/.*/ "&"/' | tr -d '\n' ;;
	openrc) printf '%s\n' "$args" | sed -e "s/'/'\\\\''/g" -e "s/.*/ '&'/" | tr -d '\n' | sed -e 's/[\\"$`]/\\&/g' ;;
	esac
}

write_unit() {
	{
		comment
		cat <<-END
			[Unit]
			Description=Skiff, Kubernetes as one process ($role)
			Wants=network-online.target
			After=network-online.target

			[Service]
			Type=${INSTALL_SKIFF_TYPE:-notify}
			NotifyAccess=main
			EnvironmentFile=-/etc/default/%N
			EnvironmentFile=-/etc/sysconfig/%N
			EnvironmentFile=-$env_file
			KillMode=process
			Delegate=yes
			ExecStartPre=-/sbin/modprobe br_netfilter
			ExecStartPre=-/sbin/modprobe overlay
			ExecStart=$bin/skiff$(quoted systemd)
			LimitNOFILE=1048576
			LimitNPROC=infinity
			LimitCORE=infinity
			TasksMax=infinity
			TimeoutStartSec=0
			WatchdogSec=60
			Restart=always
			RestartSec=5s

			[Install]
			WantedBy=multi-user.target
		END
	} >"$work/service"
	[ "${INSTALL_SKIFF_TYPE:-notify}" = notify ] || sed -i -e '/^WatchdogSec=/d' -e '/^NotifyAccess=/d' "$work/service"
}

write_openrc() {
	{
		echo '#!/sbin/openrc-run'
		comment
		cat <<-END
			description="Skiff, Kubernetes as one process ($role)"
			supervisor=supervise-daemon
			command=$bin/skiff
			command_args="$(quoted openrc)"
			output_log=/var/log/$name.log
			error_log=/var/log/$name.log
			pidfile=/run/$name.pid
			respawn_delay=5
			respawn_max=0
			rc_ulimit="-n 1048576 -u unlimited -c unlimited"
			rc_cgroup_cleanup=no

			depend() {
				after network-online
				want cgroups
			}

			start_pre() {
				modprobe -q br_netfilter || true
				modprobe -q overlay || true
				set -a
				[ ! -f $env_file ] || . $env_file
				set +a
			}
		END
	} >"$work/service"
	cat >"$work/logrotate" <<-END
		/var/log/$name.log {
			missingok
			notifempty
			size 50M
			rotate 3
			compress
			copytruncate
		}
	END
}

# write_scripts writes the two that end and remove what the service does.
write_scripts() {
	for script in killall uninstall; do
		{
			echo '#!/bin/sh'
			echo "$marker"
			cat <<-END
				name=$name role=$role init=$init bin=$bin
				service_file=$service_file env_file=$env_file
			END
			printf 'args='
			printf '%s' "$args" | sed -e "s/'/'\\\\''/g" -e "1s/^/'/" -e "\$s/\$/'/"
			echo
			common_part
			${script}_part
		} >"$work/skiff-$script.sh"
	done
}

common_part() {
	cat <<'END'

fail() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# setting NAME DEFAULT: what the service has been told; of a list, one item a line.
setting() {
	value=$(
		set -a
		# shellcheck source=/dev/null
		[ ! -f "$env_file" ] || . "$env_file"
		set +a
		key=$1
		set -- config show
		[ "$role" = server ] || set -- "$@" --agent
		set -f
		IFS='
'
		for a in ${args#"$role"}; do set -- "$@" "$a"; done
		unset IFS
		"$bin/skiff" "$@" 2>/dev/null | awk -v "key=$key:" '
			index($0, key) == 1 { on = 1; v = substr($0, length(key) + 1) }
			on && /^ *- / { v = $0; sub(/^ *- /, "", v) }
			index($0, key) != 1 && !/^ *- / { on = 0 }
			on { sub(/ *#.*/, "", v); sub(/^ +/, "", v); gsub(/^"|"$/, "", v); if (v != "") print v }'
	)
	printf '%s' "${value:-$2}"
}

settings() {
	data=$(setting data-dir /var/lib/skiff)
	case $data in
	/*) ;;
	*) data=/var/lib/skiff ;;
	esac
}
END
}

killall_part() {
	cat <<'END'

# Stops Skiff and ends every pod of this machine: containers, their mounts,
# network and packet filter rules. Files stay, and Skiff can be started again.

stop_service() {
	case $init in
	systemd) [ ! -d /run/systemd/system ] || systemctl stop "$name.service" 2>/dev/null ;;
	openrc) [ ! -x "$service_file" ] || [ ! -d /run/openrc ] || rc-service -q "$name" stop ;;
	esac
	for p in /proc/[0-9]*; do
		case $(readlink "$p/exe" 2>/dev/null) in
		"$bin/skiff" | "$bin/skiff (deleted)" | "$data"/data/*/bin/skiff*) ;;
		*) continue ;;
		esac
		case $(tr '\0' '\n' <"$p/cmdline" 2>/dev/null | sed -n 2p) in
		server | agent) fail "Skiff runs as process ${p#/proc/}, which is not that of the service $name: stop it first" ;;
		esac
	done
}

# pod_processes lists shims, and what is in the cgroups of containers.
pod_processes() {
	for p in /proc/[0-9]*; do
		case $(readlink "$p/exe" 2>/dev/null) in
		"$data"/*/containerd-shim-runc-v2*) echo "${p#/proc/}" ;;
		esac
	done
	for d in /sys/fs/cgroup/kubepods* /sys/fs/cgroup/*/kubepods*; do
		[ ! -d "$d" ] || find "$d" -name cgroup.procs -exec cat {} + 2>/dev/null
	done
	for d in /run/skiff/containerd/io.containerd.runtime.v2.task/*/*; do
		[ ! -d "$d" ] || find /sys/fs/cgroup -path "*${d##*/}*" -name cgroup.procs -exec cat {} + 2>/dev/null
	done
}

end_pods() {
	tries=0
	while pids=$(pod_processes | sort -un | tr '\n' ' ') && [ -n "${pids% }" ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || fail "these processes of pods do not end: $pids"
		# shellcheck disable=SC2086 # several numbers
		kill -9 $pids 2>/dev/null
		sleep 0.1
	done
}

# mounted PREFIX...: the mount points that begin so, innermost first.
mounted() {
	while read -r _ point _; do
		for prefix; do
			case $point in
			"$prefix"*) printf '%b\n' "$point" ;;
			esac
		done
	done </proc/mounts | sort -r
}

unmount() {
	mounted /run/skiff/ "$data/agent/containerd/tmpmounts/" /var/lib/kubelet/pods/ /var/lib/kubelet/plugins/ /run/netns/cni- | while IFS= read -r point; do
		# Mounts of one thing at two places go together.
		umount "$point" 2>/dev/null || umount -l "$point" 2>/dev/null
	done
	rm -f /run/netns/cni-*
	rmdir /run/netns 2>/dev/null
}

remove_links() {
	command -v ip >/dev/null 2>&1 || fail "the program ip (package iproute2) is missing, and links are removed with it"
	# An agent has learned the cluster's settings from its server.
	learned=''
	if [ -f "$data/agent/cluster.json" ]; then learned=$(tr -d ' \t\n' <"$data/agent/cluster.json"); fi
	networks=$(printf '%s' "$learned" | sed -n 's/.*"clusterCIDRs":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr ',' '\n')
	dns=$(printf '%s' "$learned" | sed -n 's/.*"linkLocalDNS":"\([^"]*\)".*/\1/p')
	for network in ${networks:-$(setting cluster-cidr 10.42.0.0/16)}; do
		ip route flush root "$network" 2>/dev/null
	done
	# DNS answers at the bridge's address too, which the loopback link then holds.
	addresses=$(ip -o address show dev cni0 2>/dev/null | sed -n 's/.* inet6\{0,1\} \([^/]*\)\/.*/\1/p')
	for port in /sys/class/net/cni0/brif/*; do
		[ ! -e "$port" ] || ip link delete "${port##*/}" 2>/dev/null
	done
	for link in cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0; do
		[ ! -e "/sys/class/net/$link" ] || ip link delete "$link"
	done
	for address in $addresses ${dns:-$(setting link-local-dns 169.254.20.10)}; do
		case $address in
		*:*) ip address del "$address/128" dev lo 2>/dev/null ;;
		*) ip address del "$address/32" dev lo 2>/dev/null ;;
		esac
	done
}

remove_rules() {
	if command -v nft >/dev/null 2>&1; then
		nft list tables 2>/dev/null | while read -r _ family table; do
			case $table in
			kube-proxy | flannel-ipv4 | flannel-ipv6 | cni_hostport | skiff | skiff-*) nft delete table "$family" "$table" ;;
			esac
		done
	fi
	for tables in iptables ip6tables; do
		command -v "$tables-save" >/dev/null 2>&1 || continue
		ours='KUBE-|CNI-HOSTPORT|CNI-DN|FLANNEL-|flanneld'
		if "$tables-save" 2>/dev/null | grep -Eq -- "$ours"; then
			"$tables-save" 2>/dev/null | grep -Ev -- "$ours" | "$tables-restore"
		fi
	done
	command -v nft >/dev/null 2>&1 || return 0
	# The kubelet has made these; who needs them makes them again.
	for family in ip ip6; do
		for table in filter nat mangle; do
			rest=$(nft list table $family $table 2>/dev/null | grep -v -e '^#' -e '^table ' -e '^[[:space:]]*chain [A-Z]* {$' -e 'type .* hook .* policy accept;$' -e '^[[:space:]]*}\{0,1\}$')
			[ -n "$rest" ] || nft delete table $family $table 2>/dev/null
		done
	done
}

# remove_state removes what outlives containers that were killed.
remove_state() {
	for d in /run/skiff/containerd/io.containerd.runtime.v2.task/*/*; do
		[ ! -d "$d" ] || rm -rf "/run/containerd/runc/${d#/run/skiff/containerd/io.containerd.runtime.v2.task/}"
	done
	rmdir /run/containerd/runc/k8s.io /run/containerd/runc /run/containerd 2>/dev/null
	rm -rf /var/lib/cni/results/skiff-* /run/skiff /run/flannel
	rmdir /var/lib/cni/results /var/lib/cni 2>/dev/null
}

remove_cgroups() {
	for d in /sys/fs/cgroup/kubepods* /sys/fs/cgroup/*/kubepods*; do
		[ -d "$d" ] || continue
		if [ "$init" = systemd ] && [ -d /run/systemd/system ]; then
			case ${d##*/} in
			*.slice) systemctl stop "${d##*/}" 2>/dev/null ;;
			esac
		fi
		[ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} + 2>/dev/null
	done
}

main() {
	[ "$(id -u)" = 0 ] || fail "only root can end other users' processes: sudo $0"
	settings
	stop_service
	end_pods
	unmount
	remove_links
	remove_rules
	remove_cgroups
	remove_state
	exit 0
}

main "$@"
END
}

uninstall_part() {
	cat <<'END'

# Removes Skiff from this machine with everything that it made: pods, links,
# rules, its data with the cluster's state and local volumes, its settings.

mounted_below() {
	while read -r _ point _; do
		case $point in
		"$1"/*) printf '%b\n' "$point" ;;
		esac
	done </proc/mounts
}

remove_service() {
	case $init in
	systemd)
		if command -v systemctl >/dev/null 2>&1; then
			systemctl disable -q "$name.service" 2>/dev/null
		fi
		rm -f "$service_file"
		if [ -d /run/systemd/system ]; then
			systemctl daemon-reload
			systemctl reset-failed "$name.service" 2>/dev/null
		fi
		;;
	openrc)
		if command -v rc-update >/dev/null 2>&1; then
			rc-update -q delete "$name" default 2>/dev/null
		fi
		rm -f "$service_file" "/etc/logrotate.d/$name" "/var/log/$name.log"*
		;;
	esac
	rm -f "$env_file"
}

remove_files() {
	if [ "$data" = /var/lib/skiff ]; then
		rm -rf "$data"
	else
		# A directory that somebody chose may hold more than what is ours.
		rm -rf "$data/server" "$data/agent" "$data/data" "$data/storage" "$data/credentialprovider" "$data/.lock"
		rmdir "$data" 2>/dev/null || echo "$data is left: it holds files that are not of Skiff"
	fi
	[ -z "$kubeconfig" ] || rm -f "$kubeconfig"
	rm -rf /etc/skiff /var/lib/kubelet /var/log/pods /var/log/containers
	for link in kubectl ctr; do
		[ "$(readlink "$bin/$link" 2>/dev/null)" != skiff ] || rm -f "$bin/$link"
	done
	rm -f "$bin/skiff" "$bin/skiff-killall.sh" "$bin/skiff-uninstall.sh"
}

main() {
	[ "$(id -u)" = 0 ] || fail "only root can remove what root installed: sudo $0"
	settings
	kubeconfig=$(setting write-kubeconfig "")
	"$bin/skiff-killall.sh" || exit 1
	for d in "$data" /var/lib/kubelet; do
		still=$(mounted_below "$d")
		[ -z "$still" ] || fail "something is mounted that would be emptied: unmount it, then run this again:
$still"
	done
	remove_service
	remove_files
	echo "Skiff is removed from this machine"
	exit 0
}

main "$@"
END
}

# --- into place -------------------------------------------------------------------

# place FILE TARGET MODE: replaces the target in one step and notes a change.
place() {
	chmod "$3" "$1"
	if [ -f "$2" ] && cmp -s "$1" "$2"; then
		chmod "$3" "$2"
		return 0
	fi
	mkdir -p "$(dirname "$2")"
	if ! { { ln "$1" "$2.new" 2>/dev/null || cp -p "$1" "$2.new"; } && mv -f "$2.new" "$2"; }; then fail "$2 could not be written"; fi
	changed=true
}

place_links() {
	[ "${INSTALL_SKIFF_SYMLINK:-}" != skip ] || return 0
	for link in kubectl ctr; do
		if [ "$(readlink "$bin/$link" 2>/dev/null)" = skiff ]; then continue; fi
		other=$(command -v $link || true)
		if [ -n "$other" ] && [ "${INSTALL_SKIFF_SYMLINK:-}" != force ]; then
			say "$other is there and stays: \"skiff $link\" is the one of the cluster"
			continue
		fi
		ln -sf skiff "$bin/$link"
	done
}

place_all() {
	changed=false
	place "$work/skiff" "$bin/skiff" 0755
	place_links
	was=$changed
	place "$work/skiff-killall.sh" "$bin/skiff-killall.sh" 0755
	place "$work/skiff-uninstall.sh" "$bin/skiff-uninstall.sh" 0755
	if [ "$init" = openrc ] && [ -d /etc/logrotate.d ]; then
		place "$work/logrotate" "/etc/logrotate.d/$name" 0644
	fi
	changed=$was # the service does not depend on these
	place "$work/env" "$env_file" 0600
	place "$work/service" "$service_file" "$mode"
}

start_systemd() {
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	if $enable; then systemctl enable -q "$name.service" || fail "systemd could not enable $name"; fi
	$start || return 0
	if systemctl is-active -q "$name.service" && ! $changed; then
		say "$name runs, and nothing has changed"
		return 0
	fi
	say "starting $name, and waiting until it is ready (journalctl -fu $name shows what it does)"
	if ! systemctl restart "$name.service"; then
		journalctl -u "$name.service" -n 20 --no-pager -o cat >&2 || true
		fail "$name did not start: its last messages are above; systemd tries again every 5 seconds"
	fi
}

start_openrc() {
	if $enable; then rc-update -q add "$name" default || fail "OpenRC could not add $name to its default run level"; fi
	$start || return 0
	if rc-service -q "$name" status >/dev/null 2>&1 && ! $changed; then
		say "$name runs, and nothing has changed"
		return 0
	fi
	say "starting $name (its log is /var/log/$name.log)"
	rc-service -q "$name" restart || fail "$name did not start: see /var/log/$name.log"
}

main() {
	set -eu
	umask 022
	case ${1:-} in
	-h | --help | help)
		usage
		exit 0
		;;
	esac
	[ "$(uname -s)" = Linux ] || fail "Skiff runs on Linux"
	[ "$(id -u)" = 0 ] || fail "a service can be installed by root only: put sudo in front of sh"
	case ${INSTALL_SKIFF_SYMLINK:-} in
	'' | skip | force) ;;
	*) fail "INSTALL_SKIFF_SYMLINK=$INSTALL_SKIFF_SYMLINK: it is skip or force" ;;
	esac
	find_init
	find_bin_dir
	find_earlier
	choose_args "$@"
	work=$(mktemp -d "$(near "$bin")/.skiff-install.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	write_env
	check_agent
	get_program
	check_configuration
	case $init in
	systemd) write_unit ;;
	openrc) write_openrc ;;
	esac
	write_scripts
	place_all
	if yes INSTALL_SKIFF_FORCE_RESTART "${INSTALL_SKIFF_FORCE_RESTART:-}"; then changed=true; fi
	case $init in
	systemd) start_systemd ;;
	openrc) start_openrc ;;
	esac
	say "$(printf '%s\n' "$version" | head -n 1) is installed as $name; skiff-uninstall.sh removes it"
	if ! $start; then say "it was not started"; fi
}

main "$@"
