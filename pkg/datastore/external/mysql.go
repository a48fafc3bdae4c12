package external

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	kinemysql "github.com/k3s-io/kine/pkg/drivers/mysql"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// The numbers of errors that say what a person has to mend.
const (
	mysqlWrongPassword   = 1045
	mysqlNoSocketAccess  = 1698
	mysqlNoSuchDatabase  = 1049
	mysqlNotYourDatabase = 1044
	mysqlHostNotAllowed  = 1130
	mysqlNotAllowed      = 1142
)

func newMySQL(cfg Config, dsn string, log *logrus.Entry) (store, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil { // the error may have parts of the password
		return nil, errors.New("it can not be read: write it like mysql://USER:PASSWORD@tcp(HOST:3306)/DATABASE")
	}
	if config.DBName == "" {
		config.DBName = defaultDatabase
	}
	if cfg.CAFile+cfg.CertFile+cfg.KeyFile != "" {
		info := transport.TLSInfo{TrustedCAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
		c, err := info.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("certificates for the database: %w; correct --datastore-cafile, --datastore-certfile and --datastore-keyfile", err)
		}
		c.MinVersion = tls.VersionTLS12
		config.TLS = c
	}
	// It only knows of connections that the database has closed meanwhile, and
	// would write to standard error. kine's own configuration takes the same.
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil {
		return nil, err
	}
	config.Logger = &mysql.NopLogger{}
	db := &mysqlDB{config: config}
	return newKine(cfg, db, kinemysql.New, dsn, log), nil
}

type mysqlDB struct{ config *mysql.Config }

func (m *mysqlDB) where() string {
	return fmt.Sprintf("mysql://%s@%s(%s)/%s", m.config.User, m.config.Net, m.config.Addr, m.config.DBName)
}

// connect makes the database when it is missing and this user may.
func (m *mysqlDB) connect(ctx context.Context) error {
	err := m.ask(ctx, m.config, "SELECT 1")
	if mysqlNumber(err) == mysqlNoSuchDatabase {
		outside := m.config.Clone()
		outside.DBName = ""
		if made := m.ask(ctx, outside, "CREATE DATABASE IF NOT EXISTS "+m.quoted()); made != nil {
			return m.explain(errors.Join(err, made))
		}
		err = m.ask(ctx, m.config, "SELECT 1")
	}
	return m.explain(err)
}

func (m *mysqlDB) quoted() string { return "`" + strings.ReplaceAll(m.config.DBName, "`", "``") + "`" }

func (m *mysqlDB) ask(ctx context.Context, config *mysql.Config, statement string) error {
	connector, err := mysql.NewConnector(config.Clone())
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

func mysqlNumber(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

func (m *mysqlDB) explain(err error) error {
	switch mysqlNumber(err) {
	case mysqlWrongPassword, mysqlNoSocketAccess:
		return &refusal{err, "correct the user or the password in --datastore-endpoint"}
	case mysqlHostNotAllowed:
		return &refusal{err, "let the user in from this host"}
	case mysqlNoSuchDatabase:
		return &refusal{err, fmt.Sprintf("make it as an administrator: CREATE DATABASE %s; GRANT ALL ON %[1]s.* TO '%s'@'%%'", m.quoted(), m.config.User)}
	case mysqlNotYourDatabase, mysqlNotAllowed:
		return &refusal{err, fmt.Sprintf("let the user have the database, as an administrator: GRANT ALL ON %s.* TO '%s'@'%%'", m.quoted(), m.config.User)}
	}
	if errors.Is(err, mysql.ErrNoTLS) {
		return &refusal{err, "switch TLS on in the database (ssl_cert, ssl_key), or leave --datastore-cafile and its like out"}
	}
	return err
}
