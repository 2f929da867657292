package db3

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

// iterator reads a sound database row by row along its index of times: memory
// is that of one message and SQLite's page cache (2 MB).
type iterator struct {
	reader *Reader
	filter record.Filter
	rows   *sql.Rows
	dec    compress.Decoder
	given  bool // at least one message
	last   row
	rest   *salvager // takes over after damage
	err    error
}

func (it *iterator) query() error {
	rows, err := it.reader.db.Query("SELECT id, topic_id, timestamp, data FROM messages WHERE " +
		it.reader.condition(it.filter) + " ORDER BY timestamp, id")
	it.rows = rows
	return err
}

// Next returns the next message or io.EOF.
func (it *iterator) Next() (*record.Message, error) {
	if it.rest != nil {
		return it.rest.Next()
	}
	if it.err != nil {
		return nil, it.err
	}
	var m *record.Message
	err := guard(func() (err error) {
		m, err = it.next()
		return err
	})
	if err == nil || err == io.EOF {
		it.err = err
		return m, err
	}
	// Damage in the database: what can still be had is fetched row by row.
	it.reader.warn("messages that lie in the damaged pages", err)
	it.Close()
	it.rest = it.reader.salvage(it.filter)
	if it.given {
		it.rest.skipTo(it.last)
	}
	return it.rest.Next()
}

func (it *iterator) next() (*record.Message, error) {
	for it.rows.Next() {
		var id, topic, time int64
		var data []byte
		into := any(&data)
		if it.filter.Reuse {
			into = (*sql.RawBytes)(&data) // not copied
		}
		if err := it.rows.Scan(&id, &topic, &time, into); err != nil {
			return nil, fmt.Errorf("reading a message: %w", err)
		}
		conn, ok := it.reader.topics[topic]
		if !ok {
			continue // counted by Open
		}
		it.given, it.last = true, row{id: id, time: time}
		if m, ok := it.reader.message(&it.dec, conn, id, time, data); ok {
			return m, nil
		}
	}
	if err := it.rows.Err(); err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}
	return nil, io.EOF
}

// Close ends the iteration.
func (it *iterator) Close() error {
	if it.err == nil {
		it.err = io.EOF
	}
	if it.rows == nil {
		return nil
	}
	rows := it.rows
	it.rows = nil
	return guard(rows.Close)
}

// row is a message of a table that cannot be read in order: 32 bytes a message.
type row struct {
	id, time int64
	conn     *record.Connection
}

func (a row) compare(b row) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.id, b.id)) }

// salvager reads the messages of a damaged database, or of one without an index
// of times, one by one.
type salvager struct {
	reader *Reader
	rows   []row
	dec    compress.Decoder
	closed bool
}

// salvage lists the rows that can be read, from the first on and from the last
// back, which passes over damage in between.
func (r *Reader) salvage(f record.Filter) *salvager {
	it := &salvager{reader: r}
	seen := map[int64]struct{}{}
	for _, order := range []string{"ASC", "DESC"} {
		err := guard(func() error { return it.list(f, order, seen) })
		if err == nil {
			break
		}
		r.warn("messages that lie in the damaged pages", err)
	}
	slices.SortFunc(it.rows, row.compare)
	return it
}

func (it *salvager) list(f record.Filter, order string, seen map[int64]struct{}) error {
	// NOT INDEXED: the index may be what is damaged.
	rows, err := it.reader.db.Query("SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE " +
		it.reader.condition(f) + " ORDER BY id " + order)
	if err != nil {
		return fmt.Errorf("listing messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, topic, time int64
		if err := rows.Scan(&id, &topic, &time); err != nil {
			return fmt.Errorf("listing messages: %w", err)
		}
		conn, ok := it.reader.topics[topic]
		if _, twice := seen[id]; twice || !ok {
			continue
		}
		seen[id] = struct{}{}
		it.rows = append(it.rows, row{id: id, time: time, conn: conn})
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("listing messages: %w", err)
	}
	return nil
}

// skipTo drops the rows up to and including last.
func (it *salvager) skipTo(last row) {
	it.rows = slices.DeleteFunc(it.rows, func(r row) bool { return r.compare(last) <= 0 })
}

// Next returns the next message or io.EOF.
func (it *salvager) Next() (*record.Message, error) {
	for !it.closed && len(it.rows) > 0 {
		next := it.rows[0]
		it.rows = it.rows[1:]
		var data []byte
		err := guard(func() error {
			return it.reader.db.QueryRow("SELECT data FROM messages WHERE id = ?", next.id).Scan(&data)
		})
		switch {
		case errors.Is(err, sql.ErrNoRows):
			err = errors.New("the row is listed but not found")
			fallthrough
		case err != nil:
			it.reader.warn(fmt.Sprintf("message %d of %s", next.id, next.conn.Topic), err)
			continue
		}
		if m, ok := it.reader.message(&it.dec, next.conn, next.id, next.time, data); ok {
			return m, nil
		}
	}
	return nil, io.EOF
}

// Close ends the iteration.
func (it *salvager) Close() error {
	it.closed = true
	it.rows = nil
	return nil
}
