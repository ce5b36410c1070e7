// Package database opens the SQL databases of the services: SQLite in a file by default, PostgreSQL on request, both
// behind database/sql and migrated by goose when they are opened.
//
// SQLite takes one writer at a time. A transaction that begins by reading and then writes fails at once with
// SQLITE_BUSY_SNAPSHOT, whatever the busy timeout says, if another one wrote in between. So writes go through a pool of
// one connection whose transactions begin IMMEDIATE, and reads through a pool of their own.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // driver "sqlite"
)

// Config says which database. Either Path or URL is set.
type Config struct {
	Path string // file of a SQLite database; its folder is made
	URL  string // PostgreSQL connection URL; wins over Path
	// Migrations has one folder per dialect: "migrations/sqlite" and, where PostgreSQL is supported,
	// "migrations/postgres".
	Migrations fs.FS
	// Name tells the services apart within one PostgreSQL database: their migrations are recorded by it.
	Name string
	// Relaxed lets SQLite answer before the disk has the transaction. A killed process loses nothing; a power cut may
	// lose the last transactions.
	Relaxed bool
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	Write *sql.DB // SQLite: one connection, BEGIN IMMEDIATE
	Read  *sql.DB
	pg    bool
	url   string
}

// Open opens the database and brings its tables up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := open(cfg)
	if err != nil {
		return nil, err
	}
	if err := db.prepare(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", cfg.where(), err), db.Close())
	}
	return db, nil
}

func (c Config) where() string {
	if c.URL == "" {
		return c.Path
	}
	if u, err := url.Parse(c.URL); err == nil {
		return u.Redacted()
	}
	return "PostgreSQL"
}

func open(cfg Config) (*DB, error) {
	if cfg.URL != "" {
		pool, err := sql.Open("pgx", cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("database %s: %w", cfg.where(), err)
		}
		pool.SetMaxOpenConns(16)
		return &DB{Write: pool, Read: pool, pg: true, url: cfg.URL}, nil
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("database: make folder: %w", err)
	}
	synchronous := "FULL"
	if cfg.Relaxed {
		synchronous = "NORMAL"
	}
	pragmas := "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous(" + synchronous + ")"
	path := (&url.URL{Scheme: "file", Opaque: url.PathEscape(cfg.Path)}).String()
	write, err := sql.Open("sqlite", path+"?_txlock=immediate&"+pragmas)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", cfg.Path, err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", path+"?"+pragmas+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", cfg.Path, err), write.Close())
	}
	read.SetMaxOpenConns(4)
	return &DB{Write: write, Read: read}, nil
}

// prepare reads back the settings that the rest relies on, and migrates.
func (db *DB) prepare(ctx context.Context, cfg Config) error {
	dialect, dir := goose.DialectPostgres, "migrations/postgres"
	if !db.pg {
		dialect, dir = goose.DialectSQLite3, "migrations/sqlite"
		var mode string
		if err := db.Write.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
			return err
		}
		if mode != "wal" {
			return fmt.Errorf("journal_mode is %q, not WAL: put the database on a local file system", mode)
		}
	}
	migrations, err := fs.Sub(cfg.Migrations, dir)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(dialect, db.Write, migrations, goose.WithTableName(cfg.Name+"_migrations"))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Close closes both pools.
func (db *DB) Close() error {
	if db.pg {
		return db.Write.Close()
	}
	return errors.Join(db.Read.Close(), db.Write.Close())
}

// Postgres reports whether this is PostgreSQL.
func (db *DB) Postgres() bool { return db.pg }

// SQL returns query with its ? placeholders spelled as the database wants them. Queries have no ? in literals.
func (db *DB) SQL(query string) string {
	if !db.pg {
		return query
	}
	var b strings.Builder
	n := 0
	for {
		i := strings.IndexByte(query, '?')
		if i < 0 {
			b.WriteString(query)
			return b.String()
		}
		n++
		b.WriteString(query[:i])
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		query = query[i+1:]
	}
}

// Tx runs f in a write transaction, and commits unless f fails.
func (db *DB) Tx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// ignoreDone drops the error of rolling back a transaction that a cancelled context has rolled back already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
