// Package databases tells how to start the database servers that tests keep a
// cluster's state in: Debian's PostgreSQL and MariaDB, as an unprivileged user,
// in a directory of their own, with certificates of their own. Tests run the
// script that it gives, on this machine or on a test host; it imports nothing
// of ours.
package databases

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Server is a database server to be started. All of it lives below Dir.
type Server struct {
	Dir      string // made when it is missing
	Address  string // to listen on
	Port     int
	Password string // of User
	// Cert and Key make the server speak TLS; "" for none. They are copied.
	Cert, Key string
}

// User is the one user of a server; it may do everything.
const User = "skiff"

// asNobody begins a command that does not run as root: neither of the servers
// would.
const asNobody = `
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then as() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }; fi
umask 077
mkdir -p "$dir"
[ -z "$cert" ] || { cp "$cert" "$dir/tls.crt"; cp "$key" "$dir/tls.key"; }
`

// owned gives the directory to whom as runs commands for.
const owned = `
[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$dir"
cd "$dir"
`

// Postgres is a shell script that becomes a PostgreSQL server, with the data of
// an earlier start if there was one. SIGINT ends it.
func (s Server) Postgres() string {
	return s.head() + asNobody + `
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
printf %s "$password" >"$dir/password"
` + owned + `
[ -e data/PG_VERSION ] || as "$bin/initdb" -D data -U ` + User + ` -A scram-sha-256 --pwfile=password -N --no-locale -E UTF8
echo 'host all all all scram-sha-256' >>data/pg_hba.conf
ssl=off; [ -z "$cert" ] || ssl=on
exec setpriv $([ "$(id -u)" != 0 ] || echo --reuid=65534 --regid=65534 --clear-groups) "$bin/postgres" -D data -h "$address" -p "$port" -k "$dir" \
	-c ssl=$ssl -c ssl_cert_file="$dir/tls.crt" -c ssl_key_file="$dir/tls.key" \
	-c fsync=off -c shared_buffers=32MB -c max_connections=150
`
}

// MariaDB is the same with MariaDB. SIGTERM ends it.
func (s Server) MariaDB() string {
	return s.head() + asNobody + `
cat >"$dir/init.sql" <<SQL
CREATE USER IF NOT EXISTS '` + User + `'@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO '` + User + `'@'%' WITH GRANT OPTION;
SQL
` + owned + `
common="--no-defaults --datadir=$dir/data --innodb-buffer-pool-size=32M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0"
[ -e made ] || {
	rm -rf data; as mkdir data
	{ printf 'CREATE DATABASE mysql;\nUSE mysql;\n'; cat /usr/share/mysql/mysql_system_tables.sql /usr/share/mysql/mysql_performance_tables.sql /usr/share/mysql/mysql_system_tables_data.sql; } |
		as mariadbd $common --bootstrap --skip-log-bin
	as touch made
}
tls=; [ -z "$cert" ] || tls="--ssl-cert=$dir/tls.crt --ssl-key=$dir/tls.key"
exec setpriv $([ "$(id -u)" != 0 ] || echo --reuid=65534 --regid=65534 --clear-groups) mariadbd $common --init-file="$dir/init.sql" \
	--bind-address="$address" --port="$port" --socket="$dir/sock" --pid-file="$dir/pid" --max-connections=150 $tls
`
}

func (s Server) head() string {
	var b strings.Builder
	b.WriteString("set -eu\nPATH=$PATH:/usr/sbin:/sbin\n")
	for _, v := range [][2]string{
		{"dir", s.Dir}, {"address", s.Address}, {"port", fmt.Sprint(s.Port)}, {"password", s.Password}, {"cert", s.Cert}, {"key", s.Key},
	} {
		fmt.Fprintf(&b, "%s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return b.String()
}

// Start runs a script on this machine, with its output in the file log. stop
// sends it the signal and waits. The server also ends with this process,
// however that ends.
func Start(script string, end os.Signal, log string) (stop func() error, err error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", "(cat <&3; kill -KILL $$) & exec 3<&-\n"+script)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{r}, out, out
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return func() error {
		err := cmd.Process.Signal(end)
		_ = cmd.Wait() // how it ended says nothing about the tests
		return errors.Join(err, w.Close())
	}, nil
}

// Missing says which of the servers this machine lacks, "" for none.
func Missing() string {
	var missing []string
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) == 0 {
		missing = append(missing, "PostgreSQL (package postgresql)")
	}
	if _, err := exec.LookPath("mariadbd"); err != nil {
		if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
			missing = append(missing, "MariaDB (package mariadb-server-core)")
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return strings.Join(missing, " and ") + " is missing: run scripts/deps databases"
}
