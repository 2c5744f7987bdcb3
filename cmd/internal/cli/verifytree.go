package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// ReadSigningKey reads the file of --signing-key, and its text; nil without it.
func ReadSigningKey(file string) (*integrity.Key, string, error) {
	if file == "" {
		return nil, "", nil
	}
	text, err := readText(file, 1<<16)
	if err != nil {
		return nil, "", err
	}
	k, err := integrity.ParseKey(text)
	if err != nil {
		return nil, "", Usage("a key that verify --init-key has made", "--signing-key %s: %v", file, err)
	}
	return k, strings.TrimSpace(text), nil
}

func readText(name string, limit int64) (string, error) {
	b, err := vfs.OS.ReadFile(filepath.ToSlash(name), limit)
	return string(b), err
}

// options reads keys and heads.
func (o *Verification) options() (vo dyngo.VerifyOptions, err error) {
	if o.level != "" {
		if vo.Level, err = dyngo.ParseLevel(o.level); err != nil {
			return vo, Usage("files, crc, chain, decode, tree, replay or state", "--level: %v", err)
		}
	}
	deep := o.key != "" || len(o.anchors) > 0
	if deep && o.level != "" && vo.Level < dyngo.LevelTree {
		return vo, Usage("--level tree", "tree heads are compared at level tree, not at %s", o.level)
	}
	if deep && o.level == "" {
		vo.Level = dyngo.LevelTree
	}
	if vo.Key, _, err = ReadSigningKey(o.key); err != nil {
		return vo, err
	}
	vo.Heads, err = o.readAnchors(vo.Key)
	return vo, err
}

// readAnchors reads the heads in the anchor files. One that is missing is made with the first head that is signed.
func (o *Verification) readAnchors(key *integrity.Key) (heads []dyngo.Anchor, err error) {
	o.newest = map[string]integrity.Head{}
	for _, name := range o.anchors {
		text, err := readText(name, integrity.MaxHeadsBytes)
		if errors.Is(err, fs.ErrNotExist) && key.Private() {
			o.newest[name] = integrity.Head{}
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, Fail(ExitNotFound, "a private --signing-key, with which the file is made", "--anchor: %w", err)
		}
		if err != nil {
			return nil, err
		}
		list, torn, err := key.ParseHeads([]byte(text))
		if err == nil && torn {
			err = errors.New("the last head is not whole")
		}
		if err != nil {
			return nil, Fail(ExitCorrupt, "whoever keeps the file must say which heads are genuine; without --signing-key "+
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
	outside := false
	for _, a := range t.Anchors {
		outside = outside || !a.Inside
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
	if !outside {
		fmt.Fprintln(w, "warning: no tree head from outside of the store was compared: a log that was cut at its end, or forged as a "+
			"whole, can't be told from a sound one; --anchor FILE with a private --signing-key keeps heads")
	}
	if t.Torn > 0 {
		fmt.Fprintf(w, "%s: what a crash left at the end of the tree (%s) is left out; it is computed again\n", integrity.Dir,
			FormatBytes(t.Torn))
	}
	if s := report.State; s != nil && report.Level == dyngo.LevelState {
		fmt.Fprintf(w, "the log up to LSN %d was replayed: %s have the version and value that it gives them", s.LSN, Plural(s.Keys, "key"))
		if s.Below > 0 {
			fmt.Fprintf(w, ", %s are from before the floor of retention and were not compared", Plural(s.Below, "key"))
		}
		fmt.Fprintln(w)
	}
	if t.Kept+t.Gone > 0 {
		what := "retention has dropped log files"
		if len(report.Log.Redactions) > 0 {
			what = "log files were dropped, or values redacted of which the log does not tell"
		}
		fmt.Fprintf(w, "%s: %s; for %s the hashes in the tree files were taken\n", integrity.Dir, what, Plural(t.Kept+t.Gone, "frame"))
	}
}

// maxShownRedactions bounds what tellRedactions lists.
const maxShownRedactions = 100

// tellRedactions says which values were destroyed on purpose, by whom and why.
func tellRedactions(cmd *cobra.Command, log *wal.VerifyReport) {
	w, list := cmd.ErrOrStderr(), log.Redactions
	for i, r := range list {
		if i == maxShownRedactions {
			fmt.Fprintf(w, "%s more were redacted\n", Plural(int64(len(list)-i), "value"))
			return
		}
		what := "its value was redacted"
		switch {
		case r.LSN < log.FirstLSN:
			what = "its value was redacted, and the event was dropped since"
		case !r.Done:
			what = "its value is to be redacted, but is there: open the store for writing, or redact it again"
		}
		if r.By == 0 {
			fmt.Fprintf(w, "LSN %d: %s; the log does not say by whom\n", r.LSN, what)
			continue
		}
		fmt.Fprintf(w, "LSN %d: %s by LSN %d at %s", r.LSN, what, r.By, time.Unix(0, r.Time).UTC().Format(time.RFC3339))
		if r.Actor != "" {
			fmt.Fprintf(w, " by %s", r.Actor)
		}
		if r.Reason != "" {
			fmt.Fprintf(w, ": %s", r.Reason)
		}
		if r.Ticket != "" {
			fmt.Fprintf(w, " (%s)", r.Ticket)
		}
		fmt.Fprintln(w)
	}
}

// Plural counts things.
func Plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return FormatCount(n) + " " + what + "s"
}

// addHead signs the head of a log that was found sound, and adds it to the anchor files.
func (o *Verification) addHead(cmd *cobra.Command, report *dyngo.VerifyReport, key *integrity.Key) error {
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

// Prove prints a bundle that the program in docs/verifier checks: that the event of an LSN is in the log, or with "heads" that the log
// of the last head in the anchor files begins this one.
func (o *Verification) Prove(cmd *cobra.Command, what string) (err error) {
	key, text, err := ReadSigningKey(o.key)
	if err != nil {
		return err
	}
	if key != nil && !key.Private() {
		return Usage("the file without .pub", "--signing-key %s: a public key can't sign the head of a proof", o.key)
	}
	var lsn uint64
	if what == "heads" {
		if _, err = o.readAnchors(nil); err == nil && o.last == "" {
			return Usage("--anchor FILE with a tree head", "heads: there is no head to begin with")
		}
	} else if lsn, err = strconv.ParseUint(what, 10, 63); err != nil || lsn == 0 {
		return Usage(`an LSN, as history and dump print it, or "heads"`, "there is no proof of %q", what)
	}
	if err != nil {
		return err
	}
	src, err := OpenSource(cmd)
	if err != nil {
		return err
	}
	fsys, dir := src.FS, src.Dir
	if src.Kind == SourceLogs || src.Archive != "" {
		dir = emptyDir
		if fsys, err = src.logsOnly(cmd.Context()); err != nil {
			return err
		}
	}
	db, err := dyngo.Open(dir, &dyngo.Options{ReadOnly: true, SigningKey: text, FS: fsys})
	if err != nil {
		return err
	}
	defer CloseStore(db, &err)
	var bundle any
	if lsn == 0 {
		bundle, err = db.ProveConsistency(cmd.Context(), o.last)
	} else {
		bundle, err = db.Prove(cmd.Context(), dyngo.LSN(lsn))
		if last := db.DurableLSN(); err != nil && dyngo.LSN(lsn) > last && db.Recovery().Damage == nil {
			err = Fail(ExitNotFound, fmt.Sprintf("an LSN up to %d, as history and dump print it", last), "%w", err)
		}
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
