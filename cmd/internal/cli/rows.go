package cli

import (
	"errors"

	"github.com/dyngodb/dyngo"
)

// KVColumns are the columns of keys, with values or without.
func KVColumns(keysOnly bool) []Column {
	cols := []Column{{Name: "key"}}
	if !keysOnly {
		cols = append(cols, Column{Name: "value"})
	}
	return append(cols, Column{Name: "lsn", Detail: true},
		Column{Name: "time", Detail: true}, Column{Name: "expires", Detail: true}, Column{Name: "subject", Detail: true})
}

// RowKV prints a row of kvColumns.
func RowKV(r *Renderer, kv dyngo.KV, keysOnly bool) error {
	if keysOnly {
		return r.Row(KeyCell(kv.Key), kv.LSN, kv.Time, kv.Expires, orAbsent(kv.Subject))
	}
	return r.Row(KeyCell(kv.Key), ValueCell(kv.Value), kv.LSN, kv.Time, kv.Expires, orAbsent(kv.Subject))
}

// AbsentKey says which key an ErrNotFound is about.
func AbsentKey(err error, dataset string, key []byte) error {
	if !errors.Is(err, dyngo.ErrNotFound) {
		return err
	}
	if errors.Is(err, dyngo.ErrErased) {
		return Fail(ExitNotFound, "", "the value of key %s in dataset %q can't be read any more: its subject was erased", QuoteKey(key), dataset)
	}
	if errors.Is(err, dyngo.ErrRedacted) {
		return Fail(ExitNotFound, "", "the value of key %s in dataset %q can't be read any more: it was redacted", QuoteKey(key), dataset)
	}
	return Fail(ExitNotFound, "dyngo-cli scan "+ShellQuote(dataset)+" --keys-only --limit 20",
		"no key %s in dataset %q", QuoteKey(key), dataset)
}

// QuoteKey writes a key for a message.
func QuoteKey(key []byte) string { return `"` + EscapeBytes(key) + `"` }

// Flushed shows the rows that were good before err.
func Flushed(r *Renderer, err error) error {
	if ferr := r.Flush(); ferr != nil {
		return ferr
	}
	return err
}

func orAbsent(s string) any {
	if s == "" {
		return nil
	}
	return s
}
