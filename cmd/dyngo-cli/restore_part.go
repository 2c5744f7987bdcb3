package main

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/snapshot"
)

// part says what of a store is restored.
type part struct {
	datasets []string // empty = all
	prefix   string   // of keys
}

func (p *part) all() bool { return len(p.datasets) == 0 && p.prefix == "" }

// checkFlags refuses a part that is named by nothing, as by a variable of a script that is not set: it would be all.
func (p *part) checkFlags(cmd *cobra.Command) error {
	switch set := cmd.Flags().Changed; {
	case set("datasets") && (len(p.datasets) == 0 || slices.Contains(p.datasets, "")):
		return cli.Usage("--datasets a,b; without it, all are restored", "--datasets: an empty name is no dataset")
	case set("prefix") && p.prefix == "":
		return cli.Usage("--prefix user/; without it, all keys are restored", "--prefix: every key begins with nothing")
	}
	return nil
}

func (p *part) String() string {
	s := "all datasets"
	if len(p.datasets) > 0 {
		s = "the datasets " + strings.Join(p.datasets, ", ")
	}
	if p.prefix != "" {
		s += fmt.Sprintf(", keys with the prefix %q", p.prefix)
	}
	return s
}

// errNothing is matched when a part would be a store without keys, and without datasets that were asked for by name.
var errNothing = errors.New("no key")

// nothing is the error for a prefix that no key of the state at an LSN has.
func (p *part) nothing(lsn dyngo.LSN) error {
	of := "any dataset"
	if len(p.datasets) > 0 {
		of = "the datasets " + strings.Join(p.datasets, ", ")
	}
	return cli.Fail(cli.ExitNotFound, "another prefix; without --prefix all keys are restored", "%w of %s begins with %q at LSN %d", errNothing, of, p.prefix, lsn)
}

// isNothing says whether an error is that of a part of which nothing is there.
func isNothing(err error) bool {
	return errors.Is(err, dyngo.ErrNoDataset) || errors.Is(err, errNothing)
}

// check returns an error if a dataset of the part, or any key of its prefix, is not in the store in src at an LSN, as take would when all
// is restored.
func (p *part) check(cmd *cobra.Command, src string, fsys vfs.FS, lsn dyngo.LSN) error {
	if p.all() {
		return nil
	}
	db, err := dyngo.Open(src, &dyngo.Options{ReadOnly: true, FS: fsys})
	if err != nil {
		return err
	}
	defer db.Close() // only read from
	v, err := db.ViewAt(cmd.Context(), dyngo.AtLSN(lsn))
	if err != nil {
		return err
	}
	defer v.Close() // only read from
	names := p.datasets
	if len(names) == 0 {
		if names, err = v.Datasets(); err != nil {
			return err
		}
	}
	past := lsn != db.DurableLSN()
	// Backups and snapshots have no side files: to look for keys of the past in them is to read the log, as the restore does.
	look := p.prefix != "" && (!past || fsys == nil && !isSnapshot(src))
	r := dyngo.Prefix([]byte(p.prefix))
	r.KeysOnly, r.Limit = true, 1
	found := false
	for _, name := range names {
		ds, err := v.Dataset(name)
		if err != nil {
			return err
		}
		if !look || found {
			continue
		}
		scan := ds.Scan
		if past {
			scan = func(r dyngo.Range) iter.Seq2[dyngo.KV, error] { return v.Scan(ds, r) }
		}
		for _, err := range scan(r) {
			if err != nil {
				return err
			}
			found = true
		}
	}
	if look && !found {
		return p.nothing(lsn)
	}
	return nil
}

// isSnapshot says whether a folder is that of a snapshot.
func isSnapshot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, snapshot.FileName))
	return err == nil
}

// wholeOf is where all of a store is restored that a part of is wanted, beside the folder of the part.
func wholeOf(dst string) string { return filepath.Clean(dst) + ".whole" }

// unfinishedOf is where the part is until all of it is there. It is made before wholeOf is, and so tells that that is ours.
func unfinishedOf(dst string) string { return filepath.Clean(dst) + ".part" }

// take makes a store in dst of a part of the one in whole, which goes then. Until all is there it has another name.
func (p *part) take(cmd *cobra.Command, whole, dst string, plan *dyngo.RestorePlan) (err error) {
	temp := unfinishedOf(dst)
	if err := empty(temp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = empty(temp) // the next call does so too
		}
	}()
	session := cli.Session(cmd)
	session.Client += fmt.Sprintf(": a part, %v, of log at LSN %d of timeline %s", p, plan.LSN, plan.Timeline)
	from, err := dyngo.Open(filepath.ToSlash(whole), &dyngo.Options{KeyRing: cli.OpenKeys(cmd)})
	if err != nil {
		return err
	}
	defer cli.CloseStore(from, &err)
	to, err := dyngo.Open(filepath.ToSlash(temp), &dyngo.Options{Session: session, Keys: filepath.ToSlash(cli.GlobalsOf(cmd).Keys)})
	if err != nil {
		return err
	}
	names := p.datasets
	if len(names) == 0 {
		for _, d := range from.Datasets() {
			names = append(names, d.Name)
		}
	}
	t := cli.NewProgress(cmd, "take the part", 0, "keys")
	keys := int64(0)
	for _, name := range names {
		if err == nil {
			var n int64
			n, err = p.copy(cmd, from, to, name, t)
			keys += n
		}
	}
	t.Done()
	if err == nil && p.prefix != "" && keys == 0 {
		err = p.nothing(plan.LSN)
	}
	if err == nil {
		err = to.WaitDurable(cmd.Context(), to.LSN())
	}
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		if err = os.Rename(temp, dst); err == nil {
			err = vfs.OS.SyncDir(filepath.ToSlash(filepath.Dir(dst)))
		}
	}
	return err
}

// empty removes what is in a folder.
func empty(dir string) error {
	names, err := os.ReadDir(dir)
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name.Name())))
	}
	return err
}

// partBatch bounds the bytes of keys and values in a batch.
const partBatch = 1 << 20

// copy copies the keys of one dataset, and counts them.
func (p *part) copy(cmd *cobra.Command, from, to *dyngo.DB, name string, t *cli.Progress) (keys int64, err error) {
	src, err := from.Dataset(name)
	if err != nil {
		return 0, err
	}
	o := src.Options()
	dst, err := to.CreateDataset(name, &o)
	if err != nil {
		return 0, err
	}
	b := to.NewBatch()
	size := 0
	flush := func() error {
		_, err := b.Commit() // also if it is empty: what it refused is told here
		b.Reset()
		size = 0
		return err
	}
	now := time.Now()
	for kv, err := range src.Scan(dyngo.Prefix([]byte(p.prefix))) {
		if err == nil {
			err = cmd.Context().Err()
		}
		if err != nil {
			return keys, err
		}
		wo := dyngo.WriteOptions{Subject: kv.Subject}
		if !kv.Expires.IsZero() {
			if wo.TTL = kv.Expires.Sub(now); wo.TTL <= 0 {
				continue
			}
		}
		t.Add(1)
		keys++
		if len(kv.Value) > partBatch {
			if err = flush(); err == nil {
				_, err = dst.PutReaderWith(slices.Clone(kv.Key), int64(len(kv.Value)), bytes.NewReader(kv.Value), wo)
			}
			if err != nil {
				return keys, err
			}
			continue
		}
		b.PutWith(dst, kv.Key, kv.Value, wo)
		if size += len(kv.Key) + len(kv.Value); size >= partBatch {
			if err := flush(); err != nil {
				return keys, err
			}
		}
	}
	return keys, flush()
}

// prepare makes the folder of the part. It returns an error if dst holds something, or if what is beside it was not left by an earlier
// call: it would be removed.
func (p *part) prepare(dst string) error {
	holds := func(dir string) (what string, err error) {
		names, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0 {
			return "", nil
		}
		if err == nil {
			what = names[0].Name()
		}
		return what, err
	}
	ours := false
	if _, err := os.Stat(wholeOf(dst)); err == nil {
		_, err := os.Stat(unfinishedOf(dst))
		ours = err == nil
	}
	for _, dir := range []string{dst, wholeOf(dst), unfinishedOf(dst)} {
		what, err := holds(dir)
		if err == nil && what != "" && (dir == dst || !ours) {
			err = fmt.Errorf("%w: %s holds %s", dyngo.ErrNotEmpty, dir, what)
		}
		if err != nil {
			return err
		}
	}
	return vfs.OS.MkdirAll(filepath.ToSlash(unfinishedOf(dst)))
}
