package sqlite

import (
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
)

// slim makes a file that kine has let grow, and that has more room than content,
// as small as its content, once: after that it shrinks by itself, as files that
// were made here do. A file that can not be made smaller is used as it is.
func slim(c *conn, log *logrus.Entry) error {
	var n [4]int64
	for i, query := range []string{pageSizeSQL, pageCountSQL, freePagesSQL, `PRAGMA auto_vacuum`} {
		var err error
		if n[i], err = c.queryInt(query); err != nil {
			return err
		}
	}
	size, pages, free, mode := n[0], n[1], n[2], n[3]
	if mode == incrementalVacuum || free*size < vacuumFrom || free < pages-free {
		return nil
	}
	log.Infof("The database has %d MiB of room for %d MiB of content, making it smaller", free*size>>20, (pages-free)*size>>20)
	start := time.Now()
	if err := c.exec(fmt.Sprintf("PRAGMA auto_vacuum = %d", incrementalVacuum)); err != nil {
		return err
	}
	if err := c.exec("VACUUM"); err != nil {
		log.WithError(err).Warn("The database could not be made smaller")
		return nil
	}
	if err := c.exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		log.WithError(err).Warn("Can not move the write-ahead log into the database file")
	}
	log.WithField("took", time.Since(start).Round(time.Millisecond)).Info("The database is smaller")
	return nil
}
