// Package db3 reads the SQLite databases of ROS 2 bags.
package db3

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

// Options are what a bag's metadata.yaml tells of its databases.
type Options struct {
	// MessageCompression is "" or "zstd": how each message's data is packed.
	MessageCompression string
	// FileCompression is "" or "zstd": how the database itself is packed. It is
	// unpacked to a temporary file that Close removes.
	FileCompression string
}

// Reader reads one database.
type Reader struct {
	path     string
	size     int64
	opts     Options
	db       *sql.DB
	temp     string // file to remove, or empty
	distro   string
	conns    []*record.Connection
	topics   map[int64]*record.Connection // by row
	ordered  bool                         // timestamps have an index
	broken   bool                         // the table could not be read to its end
	warnings record.Warnings
	close    sync.Once
}

// sqliteMagic starts every SQLite 3 database.
const sqliteMagic = "SQLite format 3\x00"

// New opens the database at path.
func New(path string, opts Options) (*Reader, error) {
	r := &Reader{path: path, opts: opts, topics: map[int64]*record.Connection{}}
	if c := opts.MessageCompression; c != "" && c != "zstd" {
		return nil, fmt.Errorf("%s: unknown message compression %q (known: zstd)", path, c)
	}
	if err := r.open(); err != nil {
		r.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func (r *Reader) open() error {
	st, err := os.Stat(r.path)
	if err != nil {
		return err
	}
	r.size = st.Size()
	file := r.path
	switch r.opts.FileCompression {
	case "":
	case "zstd":
		if file, err = Unpack(r.path); err != nil {
			return err
		}
		r.temp = file
	default:
		return fmt.Errorf("unknown file compression %q (known: zstd)", r.opts.FileCompression)
	}
	if err := checkMagic(file); err != nil {
		return err
	}
	if r.db, err = connect(file, ""); err != nil {
		return err
	}
	cause := guard(r.describe)
	if cause == nil {
		return nil
	}
	// SQLite refuses a database shorter than its header says, as one is that was
	// cut off, unless the schema is declared to be under repair.
	_ = r.db.Close()
	if r.db, err = connect(file, "&_pragma=writable_schema(1)"); err != nil {
		return err
	}
	r.conns = nil
	clear(r.topics)
	if guard(r.describe) != nil {
		return cause
	}
	r.broken = true
	r.warn("messages that lie in the missing pages", cause)
	return nil
}

func checkMagic(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, len(sqliteMagic))
	if n, _ := f.ReadAt(b, 0); string(b[:n]) != sqliteMagic {
		return fmt.Errorf("not an SQLite 3 database: it starts with %q", b[:n])
	}
	return nil
}

// connect opens the database read only. Where a write-ahead log lies beside it,
// as a recorder at work or a killed one leaves it, SQLite must be let at it;
// else the file is declared immutable so that nothing is written next to it.
func connect(file, more string) (*sql.DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	query := "mode=ro&immutable=1"
	if st, err := os.Stat(file + "-wal"); err == nil && st.Size() > 0 {
		query = "mode=ro"
	}
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: query + "&_pragma=cell_size_check(1)&_pragma=mmap_size(0)&_pragma=trusted_schema(0)" + more}
	return sql.Open("sqlite", dsn.String())
}

// guard turns a panic of the database driver into an error: the driver is
// translated C, and a hostile file must not end the program.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("SQLite failed on this database: %v", p)
		}
	}()
	return f()
}

// maxConnections bounds the rows taken from the tables that describe topics.
const maxConnections = 100_000

// describe reads the topics, their definitions and the counts of messages.
func (r *Reader) describe() error {
	tables, err := r.columns()
	if err != nil {
		return err
	}
	for table, want := range map[string][]string{
		"topics":   {"id", "name", "type", "serialization_format"},
		"messages": {"id", "topic_id", "timestamp", "data"},
	} {
		for _, column := range want {
			if !slices.Contains(tables[table], column) {
				return fmt.Errorf("table %q has no column %q; a ROS 2 bag has", table, column)
			}
		}
	}
	if err := r.readTopics(tables["topics"]); err != nil {
		return err
	}
	if tables["message_definitions"] != nil {
		if err := r.readDefinitions(); err != nil {
			r.warn("the message definitions", err)
		}
	}
	if slices.Contains(tables["schema"], "ros_distro") {
		// Informative only.
		_ = r.db.QueryRow("SELECT ros_distro FROM schema LIMIT 1").Scan(&r.distro)
	}
	if err := r.count(); err != nil {
		r.broken = true
		r.warn("messages that lie in the damaged pages", err)
		if err := r.countSingly(); err != nil {
			return err
		}
	}
	return nil
}

// columns lists the columns of each table, and notes whether the messages are
// indexed by time.
func (r *Reader) columns() (map[string][]string, error) {
	rows, err := r.db.Query(`SELECT m.type, m.tbl_name, CASE m.type WHEN 'table' THEN p.name ELSE
		(SELECT x.name FROM pragma_index_info(m.name) x WHERE x.seqno = 0) END
		FROM sqlite_master m LEFT JOIN pragma_table_info(m.name) p ON m.type = 'table'
		WHERE m.type IN ('table', 'index') LIMIT 10000`)
	if err != nil {
		return nil, fmt.Errorf("reading the list of tables: %w", err)
	}
	defer rows.Close()
	tables := map[string][]string{}
	for rows.Next() {
		var kind, table, column sql.NullString
		if err := rows.Scan(&kind, &table, &column); err != nil {
			return nil, fmt.Errorf("reading the list of tables: %w", err)
		}
		switch {
		case kind.String == "table":
			tables[table.String] = append(tables[table.String], column.String)
		case table.String == "messages" && column.String == "timestamp":
			r.ordered = true
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the list of tables: %w", err)
	}
	return tables, nil
}

func (r *Reader) readTopics(columns []string) error {
	optional := func(name string) string {
		if slices.Contains(columns, name) {
			return name
		}
		return "''"
	}
	rows, err := r.db.Query(fmt.Sprintf("SELECT id, name, type, serialization_format, %s, %s FROM topics ORDER BY id",
		optional("offered_qos_profiles"), optional("type_description_hash")))
	if err != nil {
		return fmt.Errorf("reading the topics: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var name, typ, format, qos, hash string
		if err := rows.Scan(&id, &name, &typ, &format, &qos, &hash); err != nil {
			return fmt.Errorf("reading the topics: %w", err)
		}
		c := &record.Connection{ID: len(r.conns), Topic: name, Type: record.ShortType(typ), QoS: qos, Hash: hash,
			Latched: record.TransientLocal(qos), Source: r.path}
		switch format {
		case "cdr":
			c.Encoding = record.CDR
		case "rosmsg_v2", "ros1":
			c.Encoding = record.ROS1
		}
		r.conns = append(r.conns, c)
		r.topics[id] = c
		if len(r.conns) > maxConnections {
			return fmt.Errorf("more than %d topics", maxConnections)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the topics: %w", err)
	}
	return nil
}

func (r *Reader) readDefinitions() error {
	rows, err := r.db.Query("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions LIMIT " +
		strconv.Itoa(maxConnections))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var typ, encoding, text string
		if err := rows.Scan(&typ, &encoding, &text); err != nil {
			return err
		}
		for _, c := range r.conns {
			if c.Type == record.ShortType(typ) && text != "" {
				c.Definition, c.DefinitionFormat = text, encoding
			}
		}
	}
	return rows.Err()
}

// count fills in the connections' counts and times in one pass.
func (r *Reader) count() error {
	rows, err := r.db.Query("SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages GROUP BY topic_id")
	if err != nil {
		return fmt.Errorf("counting messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, n, first, last int64
		if err := rows.Scan(&id, &n, &first, &last); err != nil {
			return fmt.Errorf("counting messages: %w", err)
		}
		c, ok := r.topics[id]
		if !ok {
			r.warn(fmt.Sprintf("%d messages", n), fmt.Errorf("they are of topic %d, which no row describes", id))
			continue
		}
		c.Count, c.First, c.Last = n, first, last
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("counting messages: %w", err)
	}
	return nil
}

// countSingly counts those messages of a damaged table that can be read.
func (r *Reader) countSingly() error {
	for _, c := range r.conns {
		c.Count, c.First, c.Last = 0, 0, 0
	}
	it := r.salvage(record.Filter{})
	defer it.Close()
	for _, e := range it.rows {
		if e.conn.Count == 0 {
			e.conn.First, e.conn.Last = e.time, e.time
		}
		e.conn.First, e.conn.Last = min(e.conn.First, e.time), max(e.conn.Last, e.time)
		e.conn.Count++
	}
	return nil
}

func (r *Reader) warn(lost string, err error) {
	r.warnings.Add(record.Warning{File: r.path, Lost: lost, Err: err})
}

// Info describes the database.
func (r *Reader) Info() record.Info {
	info := record.Info{Path: r.path, Format: "sqlite3", Profile: "ros2", Distro: r.distro, Indexed: !r.broken,
		Files:       []record.File{{Path: r.path, Size: r.size}},
		Connections: slices.Clone(r.conns), Compression: map[string]int64{}}
	record.Sum(&info)
	switch {
	case r.opts.MessageCompression != "":
		info.Compression[r.opts.MessageCompression] = info.Messages
	case r.opts.FileCompression != "":
		info.Compression[r.opts.FileCompression] = 1
	default:
		info.Compression["none"] = 1
	}
	return info
}

// Messages starts reading.
func (r *Reader) Messages(f record.Filter) record.Iterator {
	if r.ordered && !r.broken {
		it := &iterator{reader: r, filter: f}
		it.err = guard(it.query)
		return it
	}
	return r.salvage(f)
}

// Warnings lists the damage found so far.
func (r *Reader) Warnings() []record.Warning { return r.warnings.List() }

// Close closes the database and removes what was unpacked.
func (r *Reader) Close() error {
	var err error
	r.close.Do(func() {
		if r.db != nil {
			err = r.db.Close()
		}
		if r.temp != "" {
			err = errors.Join(err, os.Remove(r.temp))
		}
	})
	return err
}

// condition is the WHERE clause of a filter.
func (r *Reader) condition(f record.Filter) string {
	start, end := f.Range()
	where := fmt.Sprintf("timestamp >= %d AND timestamp <= %d", start, end)
	if len(f.Topics) == 0 {
		return where
	}
	var ids []string
	for id, c := range r.topics {
		if f.Wants(c.Topic) {
			ids = append(ids, strconv.FormatInt(id, 10))
		}
	}
	slices.Sort(ids)
	return where + " AND topic_id IN (" + strings.Join(ids, ", ") + ")"
}

// message makes a Message of a row.
func (r *Reader) message(dec *compress.Decoder, conn *record.Connection, id, time int64, data []byte) (*record.Message, bool) {
	if r.opts.MessageCompression != "" {
		plain, err := dec.Decode(nil, r.opts.MessageCompression, data, -1)
		if err != nil {
			r.warn(fmt.Sprintf("message %d of %s", id, conn.Topic), err)
			return nil, false
		}
		data = plain
	}
	return &record.Message{Connection: conn, LogTime: time, PublishTime: time, Data: data}, true
}
