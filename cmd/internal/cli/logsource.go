package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// A LogSource reads the log of a store, or one file of it, while another process may be writing to it.
type LogSource struct {
	FS   vfs.FS
	Dir  string // of the log files
	Only uint64 // the sequence of the only file to read, 0 = all
	// Oldest is the sequence of the first file to read, 0 = the oldest there is. If it is not 0, files from there on are missing if they
	// are not there, but for those that retention drops meanwhile.
	Oldest uint64
	// Missed is told of events that are gone, since retention has dropped their log files.
	Missed func(first, last event.LSN)

	store string // whose log it is, empty = of none
}

// WalDir is the directory of the log files of cmd's store.
func WalDir(cmd *cobra.Command) (string, error) {
	dir := GlobalsOf(cmd).Dir
	if err := CheckStore(dir); err != nil {
		return "", err
	}
	return filepath.ToSlash(filepath.Join(dir, "wal")), nil
}

// StoreLog is the log of what cmd reads. What is missed is told on stderr.
func StoreLog(cmd *cobra.Command) (*LogSource, error) {
	src, err := OpenSource(cmd)
	if err != nil {
		return nil, err
	}
	return src.Log(cmd)
}

// LogFile is one log file: of cmd's store by number or name, or any by path.
func LogFile(cmd *cobra.Command, arg string) (*LogSource, error) {
	number, numErr := strconv.ParseUint(arg, 10, 64)
	if info, err := os.Stat(arg); err == nil && numErr != nil {
		layer, err := logsIn(arg)
		switch {
		case info.IsDir():
			return nil, Usage("--dir for a directory", "%s is a directory, not a log file", arg)
		case err != nil:
			return nil, err
		case layer == nil:
			return nil, Usage("a file named as dyngo-cli log list shows", "%s is not named like a log file", arg)
		}
		return fileAlone(cmd.Context(), *layer), nil
	}
	l, err := StoreLog(cmd)
	if err != nil {
		return nil, err
	}
	infos, err := l.Files()
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if info.Name == filepath.Base(arg) || numErr == nil && info.Seq == number {
			l.Only, l.Missed = info.Seq, nil
			return l, nil
		}
	}
	return nil, Fail(ExitNotFound, "dyngo-cli log list -d "+ShellQuote(GlobalsOf(cmd).Dir), "no log file %q", arg)
}

// fileAlone is one log file wherever it lies. Values and batches that are not in it are looked for beside it, and in the store whose
// log folder that is.
func fileAlone(ctx context.Context, layer logLayer) *LogSource {
	dir := layer.dir
	l := &LogSource{Dir: dir, store: path.Dir(dir)}
	for name := range layer.frozen {
		l.Only, _, _ = wal.ParseFileName(name)
	}
	layer.frozen = nil
	l.FS = newLogFS(ctx, vfs.OS, path.Clean(dir), layer)
	if there, err := vfs.Exists(vfs.OS, path.Join(l.store, "manifest")); err != nil || !there || path.Base(dir) != "wal" {
		l.store = ""
	}
	return l
}

// OpenFiles returns the reader of what lies apart from the events of the log: in log files, or in the value files of the store if
// retention has dropped these. The caller closes it.
func (s *LogSource) OpenFiles() (*wal.Files, error) {
	f := wal.OpenFiles(s.FS, s.Dir)
	moved := func() error {
		var values []wal.ValueInfo
		if s.store != "" {
			v, err := readVersion(s.FS, s.store)
			if err != nil {
				return err
			}
			for _, file := range v.Values {
				name := path.Join(manifest.Dir, manifest.ValueName(file.Num))
				values = append(values, wal.ValueInfo{Num: uint64(file.Num), Path: path.Join(s.store, name), Name: name,
					From: file.From, To: file.To})
			}
		}
		f.Move(values)
		infos, err := wal.ListFiles(s.FS, s.Dir)
		if err == nil && len(infos) > 0 {
			f.Drop(infos[0].Seq)
		}
		return err
	}
	f.Renew = func() bool { return moved() == nil }
	return f, moved()
}

// Files lists the log files that are read, oldest first.
func (s *LogSource) Files() ([]wal.FileInfo, error) {
	infos, err := wal.ListFiles(s.FS, s.Dir)
	return slices.DeleteFunc(infos, func(i wal.FileInfo) bool { return i.Seq < s.Oldest || s.Only != 0 && i.Seq != s.Only }), err
}

// begin finds the file that holds the first event that the filter can let through. It tells of what is missed before that.
func (s *LogSource) begin(filter *LogFilter) (uint64, error) {
	infos, err := s.Files()
	if err != nil || len(infos) == 0 {
		return s.Only, err
	}
	first := infos[0]
	for _, info := range infos[1:] {
		begun := info.FirstLSN <= filter.From
		if !begun && filter.Since > 0 {
			head, err := wal.ReadHeader(s.FS, s.Dir, info)
			begun = err == nil && head.FirstTime < filter.Since // what can't be read is met later
		}
		if !begun {
			break
		}
		first = info
	}
	if first.Seq != infos[0].Seq {
		return first.Seq, nil
	}
	return first.Seq, s.Before(first, filter)
}

// Before says of events that the filter asks for and that lie before the oldest log file why they are not shown: Missed is told if their
// log files have gone, and it is an error if these ought to be there.
func (s *LogSource) Before(oldest wal.FileInfo, filter *LogFilter) error {
	if s.Only != 0 || oldest.FirstLSN <= max(filter.From, 1) {
		return nil
	}
	if filter.Since > 0 {
		head, err := wal.ReadHeader(s.FS, s.Dir, oldest)
		if err == nil && head.FirstTime < filter.Since {
			return nil
		}
		return s.missing(oldest)
	}
	if err := s.missing(oldest); err != nil {
		return err
	}
	s.miss(max(filter.From, 1), oldest.FirstLSN)
	return nil
}

// missing is the error for log files that must be before the oldest one that was listed, nil if retention has dropped them.
func (s *LogSource) missing(oldest wal.FileInfo) error {
	if s.Oldest == 0 || s.store == "" || oldest.Seq <= s.Oldest {
		return nil
	}
	v, err := readVersion(s.FS, s.store) // the files go after it says so
	if err != nil || oldest.Seq <= v.OldestLog {
		return err
	}
	return wal.Missing(s.Dir, max(v.OldestLog, 1))
}

// Gap is the error for a log file that is missing between two that were listed one after the other, nil if none is, or retention has
// removed them meanwhile.
func (s *LogSource) Gap(older, newer wal.FileInfo) error {
	gap := wal.Gap(s.Dir, older, newer)
	if gap == nil {
		return nil
	}
	if s.Oldest > 0 && s.store != "" {
		if v, err := readVersion(s.FS, s.store); err == nil && v.OldestLog > older.Seq {
			return nil
		}
	}
	return gap
}

// Gaps is the error for log files that are missing: the oldest of those that were listed, or of those between.
func (s *LogSource) Gaps(infos []wal.FileInfo) error {
	if len(infos) == 0 || s.Only != 0 {
		return nil
	}
	if err := s.missing(infos[0]); err != nil {
		return err
	}
	for i := range infos[1:] {
		if err := s.Gap(infos[i], infos[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// miss tells that events before next are gone.
func (s *LogSource) miss(from, next event.LSN) {
	if s.Missed != nil && from < next {
		s.Missed(from, next-1)
	}
}

// Each visits the frames of the log to its end, from the start of the file that holds the first LSN that the view's filter asks
// for. It returns where the log ends, zero if it did not read so far. ErrEnough of visit ends it without an error.
func (s *LogSource) Each(ctx context.Context, v *LogView, visit func(f *wal.Frame) error) (tail wal.Tail, err error) {
	first, err := s.begin(&v.Filter)
	if err != nil {
		return tail, err
	}
	return s.scan(ctx, v, first, visit)
}

// EachOf is Each for one file.
func (s *LogSource) EachOf(ctx context.Context, v *LogView, seq uint64, visit func(f *wal.Frame) error) error {
	one := LogSource{FS: s.FS, Dir: s.Dir, Only: seq}
	_, err := one.scan(ctx, v, seq, visit)
	return err
}

func (s *LogSource) scan(ctx context.Context, v *LogView, first uint64, visit func(f *wal.Frame) error) (tail wal.Tail, err error) {
	for {
		sc, err := wal.NewScanner(s.FS, s.Dir, wal.ScanOptions{ReadOnly: true, FromFile: first, Only: s.Only != 0})
		if err == nil {
			err = frames(ctx, v, func(context.Context) (*wal.Frame, error) { return sc.Next() }, visit)
			tail = sc.Tail()
			sc.Close() // only read from
		}
		if err == io.EOF {
			return tail, nil
		}
		if err == errEnd {
			return wal.Tail{}, nil
		}
		if again := s.dropped(err, max(tail.NextLSN, v.Filter.From, 1), &first, tail.File); !again {
			return tail, err
		}
	}
}

var (
	// ErrEnough is what a visitor returns to end a scan, as when a limit is reached.
	ErrEnough = errors.New("enough")

	errEnd = errors.New("end")
)

// frames visits frames until the filter lets none through any more.
func frames(ctx context.Context, v *LogView, next func(context.Context) (*wal.Frame, error), visit func(f *wal.Frame) error) error {
	for n := 1; ; n++ {
		f, err := next(ctx)
		if err == nil && n&63 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if f.Kind == wal.KindCommit && v.Filter.past(f.BaseLSN, f.BaseTime) {
			return errEnd
		}
		if err := visit(f); err == ErrEnough {
			return errEnd
		} else if err != nil {
			return err
		}
	}
}

// dropped says of an error whether it comes from retention, which has dropped the file that was read: then it tells of what
// was missed from an LSN on, and first is the file to go on with.
func (s *LogSource) dropped(err error, from event.LSN, first *uint64, file uint64) bool {
	if err == nil || s.Only != 0 {
		return false
	}
	infos, lerr := wal.ListFiles(s.FS, s.Dir)
	at := max(file, *first)
	if lerr != nil || len(infos) == 0 || infos[0].Seq <= at || s.missing(infos[0]) != nil {
		return false
	}
	s.miss(from, infos[0].FirstLSN)
	*first = infos[0].Seq
	return true
}

// Follow visits the frames of the log, those to come included, each once the log says that its events are durable: before
// that, a crash could take them back. That is one commit group or watermark later. It ends with the context, with an error of
// visit, or, without an error, when the filter lets nothing through any more.
func (s *LogSource) Follow(ctx context.Context, v *LogView, visit func(f *wal.Frame) error) error {
	first, err := s.begin(&v.Filter)
	if err != nil {
		return err
	}
	for {
		var tail wal.Tail
		log, err := wal.Follow(s.FS, s.Dir, wal.FollowOptions{Clock: clock.NewSystem(), Poll: 50 * time.Millisecond, FromFile: first})
		if err == nil {
			d := durable{next: log.Next}
			err = frames(ctx, v, d.Next, visit)
			tail = log.Tail()
			if n := len(d.waiting); n > 0 {
				tail.NextLSN = d.waiting[0].BaseLSN
			}
			log.Close() // only read from
		}
		if err == errEnd {
			return nil
		}
		if ctx.Err() != nil || !s.dropped(err, max(tail.NextLSN, v.Filter.From, 1), &first, tail.File) {
			return err
		}
	}
}

// durable holds frames back until a later one says that they are durable.
type durable struct {
	next    func(context.Context) (*wal.Frame, error)
	waiting []*wal.Frame
	upTo    event.LSN
}

func (d *durable) Next(ctx context.Context) (*wal.Frame, error) {
	for {
		if len(d.waiting) > 0 {
			f := d.waiting[0]
			if f.Kind != wal.KindCommit || f.BaseLSN+event.LSN(f.Count)-1 <= d.upTo {
				d.waiting = d.waiting[1:]
				return f, nil
			}
		}
		f, err := d.next(ctx)
		if err != nil {
			return nil, err
		}
		d.upTo = max(d.upTo, f.DurableLSN)
		if f.Kind == wal.KindCommit || f.Kind == wal.KindDictionary {
			for f.Kind == wal.KindCommit && len(d.waiting) > 0 && d.waiting[len(d.waiting)-1].BaseLSN >= f.BaseLSN {
				d.waiting = d.waiting[:len(d.waiting)-1] // a crash has taken it back
			}
			own := *f
			own.Body = append([]byte{}, f.Body...)
			d.waiting = append(d.waiting, &own)
		}
	}
}

// End returns the newest LSN that the log says is durable, and so where it goes on.
func (s *LogSource) End(ctx context.Context) (event.LSN, error) {
	infos, err := s.Files()
	if err != nil || len(infos) == 0 {
		return 0, err
	}
	tail, err := s.scan(ctx, NewLogView(nil, LogFilter{}), infos[len(infos)-1].Seq, func(*wal.Frame) error { return nil })
	return max(tail.DurableLSN, tail.FirstLSN-min(tail.FirstLSN, 1)), err
}

// TellWait tells on stderr if events from an LSN on are to be followed that the log does not have yet. With damage before its end it tells
// nothing: who follows shows what lies before it, and ends with it.
func (s *LogSource) TellWait(cmd *cobra.Command, from event.LSN) {
	if end, err := s.End(cmd.Context()); err == nil && from > end {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: the log ends at LSN %d; events from LSN %d on are waited for; ^C ends it\n", cmd.Root().Name(), end, from)
	}
}

// TellLost tells on stderr of batches that can't be read.
func TellLost(cmd *cobra.Command) func(first, last event.LSN) {
	return func(first, last event.LSN) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: the batch of LSN %d to %d is gone: it began in a log file that was dropped\n",
			cmd.Root().Name(), first, last)
	}
}
