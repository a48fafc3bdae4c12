package external

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/k3s-io/kine/pkg/drivers/pgsql"
	"github.com/sirupsen/logrus"
)

// The states of SQL that say what a person has to mend.
const (
	pgWrongPassword   = "28P01"
	pgNotAuthorized   = "28000"
	pgNoDatabase      = "3D000"
	pgNotAllowed      = "42501"
	pgDatabaseIsThere = "42P04"
)

// defaultDatabase is what an endpoint means that names none.
const defaultDatabase = "kubernetes"

func unescape(text string) (string, error) { return url.PathUnescape(text) }

func newPostgres(cfg Config, log *logrus.Entry) (store, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil { // the error has the password
		return nil, errors.New("it is not a URL: write it like postgres://USER:PASSWORD@HOST:5432/DATABASE, with special characters of the password as %XX")
	}
	u.Scheme = "postgres"
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/" + defaultDatabase
	}
	u.Path = strings.ToLower(u.Path) // as kine does
	q := u.Query()
	for name, value := range map[string]string{"sslrootcert": cfg.CAFile, "sslcert": cfg.CertFile, "sslkey": cfg.KeyFile} {
		if value != "" && !q.Has(name) {
			q.Set(name, value)
		}
	}
	if !q.Has("sslmode") && cfg.CAFile+cfg.CertFile+cfg.KeyFile != "" {
		q.Set("sslmode", "verify-full")
	}
	u.RawQuery = q.Encode()
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	db := &postgres{config: config, name: "postgres://" + config.User + "@" + hostPort(config.Host, strconv.Itoa(int(config.Port))) + "/" + config.Database}
	return newKine(cfg, db, pgsql.New, strings.TrimPrefix(u.String(), "postgres://"), log), nil
}

type postgres struct {
	config *pgx.ConnConfig
	name   string
}

func (p *postgres) where() string { return p.name }

// connect makes the database when it is missing and this user may.
func (p *postgres) connect(ctx context.Context) error {
	err := p.ask(ctx, p.config, "SELECT 1")
	if pgState(err) == pgNoDatabase {
		if made := p.create(ctx); made != nil {
			return p.explain(errors.Join(err, made))
		}
		err = p.ask(ctx, p.config, "SELECT 1")
	}
	return p.explain(err)
}

func (p *postgres) create(ctx context.Context) error {
	config := p.config.Copy()
	config.Database = "postgres"
	err := p.ask(ctx, config, "CREATE DATABASE "+pgx.Identifier{p.config.Database}.Sanitize())
	if pgState(err) == pgDatabaseIsThere { // another server was faster
		return nil
	}
	return err
}

func (p *postgres) ask(ctx context.Context, config *pgx.ConnConfig, statement string) error {
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, statement)
	return errors.Join(err, c.Close(ctx))
}

func pgState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func (p *postgres) explain(err error) error {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return p.mend(said)
	}
	if err != nil && p.wantsTLS() && strings.Contains(err.Error(), "server refused TLS connection") {
		return &refusal{err, "switch TLS on in the database (ssl = on), or leave --datastore-cafile and its like out"}
	}
	return err
}

// wantsTLS says whether no connection may go without.
func (p *postgres) wantsTLS() bool {
	without := slices.ContainsFunc(p.config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
	return p.config.TLSConfig != nil && !without
}

func (p *postgres) mend(err *pgconn.PgError) error {
	switch err.Code {
	case pgWrongPassword:
		return &refusal{err, "correct the user or the password in --datastore-endpoint"}
	case pgNotAuthorized:
		return &refusal{err, "let the user in from this host in the database's pg_hba.conf, or correct the user, and whether TLS is used, in --datastore-endpoint"}
	case pgNoDatabase:
		return &refusal{err, fmt.Sprintf("make it as a superuser: CREATE DATABASE %s OWNER %s", pgx.Identifier{p.config.Database}.Sanitize(), pgx.Identifier{p.config.User}.Sanitize())}
	case pgNotAllowed:
		return &refusal{err, fmt.Sprintf("let the user make tables, as a superuser: ALTER DATABASE %s OWNER TO %s", pgx.Identifier{p.config.Database}.Sanitize(), pgx.Identifier{p.config.User}.Sanitize())}
	}
	return err
}
