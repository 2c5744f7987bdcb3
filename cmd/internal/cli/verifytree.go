package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// verifyFlags are the flags of verify.
type verifyFlags struct {
	level, key, initKey, prove string
	anchors                    []string

	newest map[string]integrity.Head // in each anchor file; of none, the zero head
	last   string                    // the newest head in the anchor files, as a note
}

// readKey reads --signing-key; nil without it.
func (o *verifyFlags) readKey() (*integrity.Key, string, error) {
	if o.key == "" {
		return nil, "", nil
	}
	text, err := readText(o.key, 1<<16)
	if err != nil {
		return nil, "", err
	}
	k, err := integrity.ParseKey(text)
	if err != nil {
		return nil, "", cli.Usage("a key that verify --init-key has made", "--signing-key %s: %v", o.key, err)
	}
	return k, strings.TrimSpace(text), nil
}

func readText(name string, limit int64) (string, error) {
	b, err := vfs.OS.ReadFile(filepath.ToSlash(name), limit)
	return string(b), err
}

// options reads keys and heads.
func (o *verifyFlags) options() (vo dyngo.VerifyOptions, err error) {
	if o.level != "" {
		if vo.Level, err = dyngo.ParseLevel(o.level); err != nil {
			return vo, cli.Usage("files, crc, chain, decode, tree, replay or state", "--level: %v", err)
		}
	}
	deep := o.key != "" || len(o.anchors) > 0
	if deep && o.level != "" && vo.Level < dyngo.LevelTree {
		return vo, cli.Usage("--level tree", "tree heads are compared at level tree, not at %s", o.level)
	}
	if deep && o.level == "" {
		vo.Level = dyngo.LevelTree
	}
	if vo.Key, _, err = o.readKey(); err != nil {
		return vo, err
	}
	vo.Heads, err = o.readAnchors(vo.Key)
	return vo, err
}

// readAnchors reads the heads in the anchor files. One that is missing is made with the first head that is signed.
func (o *verifyFlags) readAnchors(key *integrity.Key) (heads []dyngo.Anchor, err error) {
	o.newest = map[string]integrity.Head{}
	for _, name := range o.anchors {
		text, err := readText(name, integrity.MaxHeadsBytes)
		if errors.Is(err, fs.ErrNotExist) && key.Private() {
			o.newest[name] = integrity.Head{}
			continue
		}
		if err != nil {
			return nil, err
		}
		list, torn, err := key.ParseHeads([]byte(text))
		if err == nil && torn {
			err = errors.New("the last head is not whole")
		}
		if err != nil {
			return nil, cli.Fail(cli.ExitCorrupt, "whoever keeps the file must say which heads are genuine; without --signing-key "+
				"signatures are not checked", "%s: %w", name, err)
		}
		for i, h := range list {
			heads = append(heads, dyngo.Anchor{Head: h, Source: name + ", head " + strconv.Itoa(i+1)})
			if h.Size > o.newest[name].Size {
				o.newest[name] = h
			}
		}
		if len(list) > 0 {
			o.last = lastNote(text)
		}
	}
	return heads, nil
}

// lastNote is the last note of a file of heads that was parsed.
func lastNote(text string) string {
	at := strings.LastIndex(text, "\n\n")
	at = strings.LastIndex(text[:at], "\n\n")
	if at < 0 {
		return text
	}
	rest := text[at+2:]
	for strings.HasPrefix(rest, "— ") { // the signatures of the one before
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return rest
}

// tellTree says what the log was compared with, and what can't be told.
func tellTree(cmd *cobra.Command, report *dyngo.VerifyReport, key *integrity.Key) {
	t, w := report.Tree, cmd.ErrOrStderr()
	if t == nil {
		return
	}
	for _, a := range t.Anchors {
		switch {
		case a.Inside:
		case a.Err != nil:
			fmt.Fprintf(w, "%s: %s: %v\n", a.Source, a.String(), a.Err)
		default:
			fmt.Fprintf(w, "%s: %s: the log agrees\n", a.Source, a.String())
		}
	}
	if t.Outside() > 0 && key == nil {
		fmt.Fprintln(w, "the signatures of the heads were not checked; --signing-key does it")
	}
	if t.Outside() == 0 {
		fmt.Fprintln(w, "warning: no tree head from outside of the store was compared: a log that was cut at its end, or forged as a "+
			"whole, can't be told from a sound one; --anchor FILE with a private --signing-key keeps heads")
	}
	if t.Torn > 0 {
		fmt.Fprintf(w, "%s: what a crash left at the end of the tree (%s) is left out; it is computed again\n", integrity.Dir,
			cli.FormatBytes(t.Torn))
	}
	if s := report.State; s != nil && report.Level == dyngo.LevelState {
		fmt.Fprintf(w, "the log up to LSN %d was replayed: %s have the version and value that it gives them", s.LSN, plural(s.Keys, "key"))
		if s.Below > 0 {
			fmt.Fprintf(w, ", %s are from before the floor of retention and were not compared", plural(s.Below, "key"))
		}
		fmt.Fprintln(w)
	}
	if t.Kept+t.Gone > 0 {
		fmt.Fprintf(w, "%s: retention has dropped log files; for %s the hashes in the tree files were taken\n", integrity.Dir,
			plural(t.Kept+t.Gone, "frame"))
	}
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return cli.FormatCount(n) + " " + what + "s"
}

// addHead signs the head of a log that was found sound, and adds it to the anchor files.
func (o *verifyFlags) addHead(cmd *cobra.Command, report *dyngo.VerifyReport, key *integrity.Key) error {
	if !key.Private() || report.Tree == nil || report.Tree.Head.Size == 0 {
		return nil
	}
	h := report.Tree.Head
	h.Time = time.Now().UTC()
	note, err := key.Sign(&h)
	if err != nil {
		return err
	}
	for _, name := range o.anchors {
		if was := o.newest[name]; was.Size >= h.Size {
			continue
		}
		if err := integrity.AppendNote(vfs.OS, filepath.ToSlash(name), note); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: added the %s\n", name, h.String())
	}
	return nil
}

// runInitKey makes a key and has the store keep a tree.
func runInitKey(cmd *cobra.Command, name string) (err error) {
	dir := cli.GlobalsOf(cmd).Dir
	inside, err := isInside(name, dir)
	if err != nil {
		return err
	}
	if inside {
		return cli.Usage("a place that is not copied with the store", "--init-key %s: the key must lie outside of the store %s", name, dir)
	}
	exists := cli.StoreExists(dir)
	if exists {
		db, err2 := cli.OpenWrite(cmd, func(o *dyngo.Options) { o.Integrity = true })
		if err2 != nil {
			return err2
		}
		defer cli.CloseStore(db, &err)
		if db.LSN() > 0 { // else there is nothing yet that a tree could hold
			if _, err := db.TreeHead(cmd.Context()); err != nil {
				return err
			}
		}
	}
	private, public, err := integrity.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	if err := writeNew(name, private+"\n", 0o600); err != nil {
		return err
	}
	if err := writeNew(name+".pub", public+"\n", 0o644); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s signs tree heads: keep it secret. %s.pub checks them: give it to those who verify.\n", name, name)
	if exists {
		fmt.Fprintf(cmd.ErrOrStderr(), "the store %s keeps a tree over its log from now on\n", dir)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "there is no store in %s yet; run this again with another FILE, or set Options.Integrity, to have "+
			"it keep a tree\n", dir)
	}
	return nil
}

// isInside says whether a file would lie in a directory.
func isInside(name, dir string) (bool, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return false, err
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil {
		name = filepath.Join(real, filepath.Base(name))
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

// writeNew writes a file that must not exist.
func writeNew(name, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// runProve prints a bundle.
func runProve(cmd *cobra.Command, o *verifyFlags) (err error) {
	key, text, err := o.readKey()
	if err != nil {
		return err
	}
	if key != nil && !key.Private() {
		return cli.Usage("the file without .pub", "--signing-key %s: a public key can't sign the head of a proof", o.key)
	}
	var lsn uint64
	if o.prove == "heads" {
		if _, err = o.readAnchors(nil); err == nil && o.last == "" {
			return cli.Usage("--anchor FILE with a tree head", "--prove heads: there is no head to begin with")
		}
	} else if lsn, err = strconv.ParseUint(o.prove, 10, 63); err != nil || lsn == 0 {
		return cli.Usage(`an LSN, as history and log print it, or "heads"`, "--prove %q", o.prove)
	}
	if err != nil {
		return err
	}
	db, err := cli.OpenRead(cmd, func(opts *dyngo.Options) { opts.SigningKey = text })
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	var bundle any
	if lsn == 0 {
		bundle, err = db.ProveConsistency(cmd.Context(), o.last)
	} else {
		bundle, err = db.Prove(cmd.Context(), dyngo.LSN(lsn))
	}
	if err != nil {
		return err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(bundle); err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(b.Bytes())
	return err
}
