package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/keyring"
)

// OpenRead opens the store of cmd for reading: it takes no lock, creates nothing and works beside
// a process that writes. Where the log ends in a torn tail, a line on stderr says so. Each of set may change the options.
func OpenRead(cmd *cobra.Command, set ...func(*dyngo.Options)) (*dyngo.DB, error) {
	dir := GlobalsOf(cmd).Dir
	if err := CheckStore(dir); err != nil {
		return nil, err
	}
	o := dyngo.Options{ReadOnly: true, KeyRing: OpenKeys(cmd)}
	for _, f := range set {
		f(&o)
	}
	db, err := dyngo.Open(dir, &o)
	if err == nil {
		tellMissing(cmd, db)
	}
	return db, err
}

// tellMissing tells on stderr if a log file of the store is missing, and what that means for what is read.
func tellMissing(cmd *cobra.Command, db *dyngo.DB) {
	if m := db.Recovery().Missing; m != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v; what is current is read without it, but for large values in it; what needs it of the past is an error\n",
			cmd.Root().Name(), m)
	}
}

// OpenWrite opens the store of cmd for writing and creates it if there is none. Each of set may
// change the options.
func OpenWrite(cmd *cobra.Command, set ...func(*dyngo.Options)) (*dyngo.DB, error) {
	dir := GlobalsOf(cmd).Dir
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, Fail(ExitFailure, "--dir with a directory", "%s is a file, not a store's directory", dir)
	}
	g := GlobalsOf(cmd)
	if g.Keys != "" {
		if err := CheckFolder("--keys", g.Keys, ""); err != nil {
			return nil, err
		}
		inside, err := vfs.Inside(g.Keys, dir)
		if inside {
			err = Usage("a folder that is not copied with the store", "--keys %s: the keys must lie outside of the store %s", g.Keys, dir)
		}
		if err != nil {
			return nil, err
		}
	}
	o := dyngo.Options{Session: Session(cmd), Keys: filepath.ToSlash(g.Keys)}
	for _, f := range set {
		f(&o)
	}
	return dyngo.Open(dir, &o)
}

// OpenKeys opens the folder of --keys for reading, nil without it.
func OpenKeys(cmd *cobra.Command) *keyring.Ring {
	g := GlobalsOf(cmd)
	if g.Keys == "" {
		return nil
	}
	c := clock.NewSystem()
	return keyring.Open(vfs.OS, filepath.ToSlash(g.Keys), keyring.Options{ReadOnly: true, Wall: c.Wall, Mono: c.Mono})
}

// Session says who writes: the person, the program and the machine behind this process. Who writes for somebody else names him in
// DYNGO_ACTOR; the log says for whom and who.
func Session(cmd *cobra.Command) dyngo.Session {
	s := dyngo.Session{Actor: "uid " + strconv.Itoa(os.Getuid()), Client: cmd.Root().Name()}
	if u, err := user.Current(); err == nil && u.Username != "" {
		s.Actor = u.Username
	}
	if actor := os.Getenv("DYNGO_ACTOR"); actor != "" && actor != s.Actor {
		s.Actor, s.Client = actor, s.Client+" by "+s.Actor
	}
	if host, err := os.Hostname(); err == nil {
		s.Address = host
	}
	return s
}

// CheckStore tells a missing store from one that can be opened.
func CheckStore(dir string) error {
	info, err := os.Stat(filepath.Join(dir, "wal"))
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return Fail(ExitFailure, "", "%s is a file: this is not a DynGO store", filepath.Join(dir, "wal"))
	case errors.Is(err, os.ErrNotExist), strings.Contains(err.Error(), "not a directory"):
		what := "no store in " + dir
		if isFile(dir) {
			what += ", which is a file"
		}
		return Fail(ExitNotFound, "--dir or DYNGO_DIR with the store's directory, or dyngo-cli put to make one", "%s", what)
	}
	return err
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

// CheckFolder returns an error if a folder that is to be written, which what names in it, is a file, or lies in another one: that
// one's owner would take it for its own, or leave it in what it copies. apart may be empty.
func CheckFolder(what, folder, apart string) error {
	if isFile(folder) {
		return Usage("the name of a folder", "%s: %s is a file, not a folder", what, folder)
	}
	if apart == "" {
		return nil
	}
	inside, err := vfs.Inside(folder, apart)
	if err != nil || !inside {
		return err
	}
	if same, err := vfs.Inside(apart, folder); same || err != nil {
		return err // the caller knows more of that
	}
	return Usage("a folder outside of it", "%s: %s lies in %s, which is not changed", what, folder, apart)
}

// StoreExists reports whether the directory holds a store.
func StoreExists(dir string) bool { return CheckStore(dir) == nil }

// ReadDataset finds a dataset of a store opened for reading.
func ReadDataset(cmd *cobra.Command, db *dyngo.DB, name string) (*dyngo.Dataset, error) {
	ds, err := db.Dataset(name)
	if !errors.Is(err, dyngo.ErrNoDataset) {
		return ds, err
	}
	var names []string
	for _, info := range db.Datasets() {
		names = append(names, strconv.Quote(info.Name))
	}
	try := "dyngo-cli datasets"
	if len(names) > 0 && len(names) <= 10 {
		try = "one of: " + strings.Join(names, ", ")
	}
	return nil, Fail(ExitNotFound, try, "no dataset %q in %s", name, GlobalsOf(cmd).Dir)
}

// CreateDataset opens the dataset or creates it with the options (nil: the defaults). A dataset
// that exists keeps the options it has if none are asked for.
func CreateDataset(db *dyngo.DB, name string, o *dyngo.DatasetOptions) (*dyngo.Dataset, error) {
	if o == nil {
		if ds, err := db.Dataset(name); !errors.Is(err, dyngo.ErrNoDataset) {
			return ds, err
		}
	}
	return db.CreateDataset(name, o)
}

// CloseStore closes db and reports its error unless there is one already. A store that was read
// beyond damage is an error too, even if a key was just not found: it may lie behind the damage.
func CloseStore(db *dyngo.DB, err *error) {
	damage := db.Recovery().Damage
	cerr := db.Close()
	switch {
	case damage != nil && (*err == nil || exitCodeOf(*err) == ExitNotFound):
		*err = fmt.Errorf("%w; only what was written before that was read", damage)
	case *err == nil:
		*err = cerr
	}
}

// flagNames puts flags in the place of the options that they set.
var flagNames = strings.NewReplacer("DatasetOptions.TTL", "--ttl", "DatasetOptions.LargeValue", "--large-value",
	"WriteOptions.Subject", "--subject", "WriteOptions.Reason", "--reason", "WriteOptions.Ticket", "--ticket",
	"WriteOptions.Correlation", "--correlation")

// explainEngine gives an error of the engine its exit code and advice.
func explainEngine(err error, what, dir string) (code int, _, try string, ok bool) {
	var locked *dyngo.LockedError
	var damaged *dyngo.CorruptionError
	switch {
	case errors.As(err, &locked):
		return ExitUnavailable, what,
			fmt.Sprintf("stop %s first; commands that only read work beside it", PidName(locked.PID)), true
	case errors.Is(err, dyngo.ErrUnredactable) && !errors.Is(err, dyngo.ErrUnsupported):
		return ExitDenied, what, "dyngo-cli history, which prints the LSNs of puts", true
	case errors.Is(err, dyngo.ErrRedact) && !errors.Is(err, dyngo.ErrUnsupported):
		return ExitConflict, what, "the same again once that is done; with --dry-run it says what is in the way still", true
	case errors.As(err, &damaged) && HasBackups(dir):
		return ExitCorrupt, what, "dyngo-cli backup verify " + ShellQuote(dir) + " lists all damage; restore the named file from a copy", true
	case errors.As(err, &damaged):
		return ExitCorrupt, what, "dyngo-cli verify -d " + ShellQuote(dir) +
			" lists all damage; restore the named file from a copy", true
	case errors.Is(err, dyngo.ErrCorrupt):
		return ExitCorrupt, what, "dyngo-cli verify -d " + ShellQuote(dir), true
	case errors.Is(err, dyngo.ErrUnsupported):
		return ExitFailure, what, "a newer dyngo-cli", true
	case errors.Is(err, dyngo.ErrNoStore):
		return ExitNotFound, what, "--dir or DYNGO_DIR with the store's directory", true
	case errors.Is(err, dyngo.ErrNoDataset):
		return ExitNotFound, what, "dyngo-cli datasets -d " + ShellQuote(dir), true
	case errors.Is(err, dyngo.ErrNoSnapshot):
		return ExitNotFound, what, "dyngo-cli snapshot list -d " + ShellQuote(dir), true
	case errors.Is(err, dyngo.ErrSnapshotExists):
		return ExitConflict, what, "another name, or dyngo-cli snapshot drop first", true
	case errors.Is(err, dyngo.ErrSnapshot):
		return ExitDenied, what, "commands that only read", true
	case errors.Is(err, backup.ErrNoBackup):
		return ExitNotFound, what, "dyngo-cli backup list with the folder of the backups", true
	case errors.Is(err, backup.ErrAnotherCopy):
		return ExitConflict, what, "another folder; or a store that dyngo-cli restore makes, which has a timeline of its own", true
	case errors.Is(err, dyngo.ErrNotEmpty):
		return ExitConflict, what, "another folder: restore makes a new store; or --delta, which replaces an earlier one", true
	case errors.Is(err, dyngo.ErrUnfinished):
		return ExitUnavailable, what, "what was at work there again, as dyngo-cli restore SRC " + ShellQuote(dir) +
			" with the same target, which goes on", true
	case errors.Is(err, dyngo.ErrMidBatch):
		return ExitUsage, what, "--before-tx or --after-tx with the batch's first LSN", true
	case errors.Is(err, dyngo.ErrOutsideWindow):
		return ExitNotFound, what, "a target within the window; dyngo-cli gc --dry-run says what bounds it", true
	case errors.Is(err, dyngo.ErrNoBatch):
		return ExitUsage, what, "the first LSN of the batch, or the LSN itself", true
	case errors.Is(err, dyngo.ErrNoKeys):
		return ExitDenied, what, "--keys or DYNGO_KEYS with the folder of the keys", true
	case errors.Is(err, dyngo.ErrNoSubject):
		return ExitNotFound, what, "the name as it was given to --subject, and the same --keys", true
	case errors.Is(err, dyngo.ErrNotFound):
		return ExitNotFound, what, "", true
	case errors.Is(err, dyngo.ErrConflict):
		return ExitConflict, what, "read the key again, then repeat with its LSN", true
	case errors.Is(err, dyngo.ErrDatasetOptions):
		return ExitConflict, what, "another dataset name, or leave the options out", true
	case errors.Is(err, dyngo.ErrReadOnly):
		return ExitDenied, what, "", true
	case errors.Is(err, dyngo.ErrLimit):
		return ExitUsage, flagNames.Replace(what), "", true
	case errors.Is(err, dyngo.ErrOutcomeUnknown):
		return ExitUnavailable, what, "look with dyngo-cli get whether the write is there", true
	case errors.Is(err, dyngo.ErrLogFailed):
		return ExitUnavailable, what, "check the device, then run the command again", true
	}
	return 0, "", "", false
}

func PidName(pid int) string {
	if pid == 0 {
		return "the other process"
	}
	return "process " + strconv.Itoa(pid)
}

// ShellQuote makes s one word for a POSIX shell, so that advice can be pasted.
func ShellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("./-_+=:,@%", r) &&
			(r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
