package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// positionDataset holds, for each dataset and file, how far the file has been loaded. Its rows are written in the same
// batch as the rows of the file: after a crash, both are there or neither, so a load goes on without gap or repetition.
const positionDataset = "dyngo-cli.load"

// A loadState is how far a load has come: the value in positionDataset.
type loadState struct {
	Dataset   string        `json:"dataset"`
	File      string        `json:"file"`
	FileBytes int64         `json:"file_bytes"`
	Key       string        `json:"key"`
	Version   string        `json:"version_field,omitempty"`
	Done      bool          `json:"done"`
	Start     dyngo.LSN     `json:"start_lsn"` // the store's LSN before the load
	Counts    loadCounts    `json:"counts"`
	Position  rows.Position `json:"position"`
}

// positionKey names the load of a file into a dataset.
func positionKey(dataset, file string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	return []byte(escape.Replace(dataset) + "|" + escape.Replace(file))
}

// findPosition returns the state of an earlier load, nil if there was none.
func findPosition(db *dyngo.DB, dataset, file string) (*loadState, error) {
	ds, err := db.Dataset(positionDataset)
	if errors.Is(err, dyngo.ErrNoDataset) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value, err := ds.Get(positionKey(dataset, file))
	if errors.Is(err, dyngo.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &loadState{}
	if err := json.Unmarshal(value, s); err != nil {
		return nil, fmt.Errorf("the position of the load of %s in dataset %q: %w", file, positionDataset, err)
	}
	return s, nil
}

// continues refuses to go on with a load of another file or with other flags.
func (s *loadState) continues(q *loadRequest, file *loadFile) error {
	const fresh = "the same command without --resume loads the file from its beginning"
	switch {
	case s.FileBytes != file.bytes:
		return cli.Fail(cli.ExitConflict, fresh, "%s has changed since its load was interrupted: it had %s bytes, now it has %s",
			file.name, cli.FormatCount(s.FileBytes), cli.FormatCount(file.bytes))
	case s.Key != q.key:
		return cli.Usage("--key "+cli.ShellQuote(s.Key)+"; or "+fresh, "the interrupted load had --key %s, this one has --key %s",
			s.Key, q.key)
	case s.Version != q.version:
		return cli.Usage("the interrupted load's flags; or "+fresh,
			"the interrupted load had --version-field %q, this one has %q", s.Version, q.version)
	}
	return nil
}
