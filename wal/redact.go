package wal

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// RedactedValue is a value that was destroyed on purpose, or is to be.
type RedactedValue struct {
	LSN event.LSN // of the event that had it
	// Done says that the value is gone. Else the next owner of the store carries it out, or retention has dropped the event.
	Done bool
	// By is the LSN of the event that says so, with its log time, the actor of its session and its annotations; 0 = the log has no
	// such event, as one that was cut before it.
	By                    event.LSN
	Time                  int64 // Unix nanoseconds
	Actor, Reason, Ticket string
	Hash                  [32]byte // what the hash tree has of the value, if Hashed
	Hashed                bool
}

// Redactions learns from a log, read from front to back, which values were destroyed. The zero value has read nothing.
type Redactions struct {
	sessions map[event.SessionID]event.Session
	values   map[event.LSN]*RedactedValue
}

// Dictionary learns who writes.
func (r *Redactions) Dictionary(d *event.Dictionary) {
	for _, s := range d.Sessions {
		r.session(s)
	}
}

func (r *Redactions) session(s event.Session) {
	if r.sessions == nil {
		r.sessions = map[event.SessionID]event.Session{}
	}
	r.sessions[s.ID] = s
}

// Event learns of a value that is gone, and what is said of one.
func (r *Redactions) Event(e *event.Event) {
	switch {
	case e.Flags&event.FlagRedacted != 0:
		r.value(e.LSN).Done = true
	case e.Op == event.OpSessionOpened:
		if s, err := event.ParseSession(e.Value); err == nil { // it was checked
			r.session(s)
		}
	case e.Op == event.OpRedact:
		lsn, _ := event.PrevLSN(e.Parts)
		reason, _ := event.FindAnnotation(e.Parts, "reason")
		ticket, _ := event.FindAnnotation(e.Parts, "ticket")
		v := r.value(lsn)
		v.By, v.Time, v.Actor, v.Reason, v.Ticket = e.LSN, e.Time, r.sessions[e.Session].Actor, string(reason), string(ticket)
		v.Hash, v.Hashed = event.RedactedHash(e.Parts)
	}
}

func (r *Redactions) value(lsn event.LSN) *RedactedValue {
	if r.values == nil {
		r.values = map[event.LSN]*RedactedValue{}
	}
	if r.values[lsn] == nil {
		r.values[lsn] = &RedactedValue{LSN: lsn}
	}
	return r.values[lsn]
}

// Of is what was learned of the value of an event, nil if nothing was.
func (r *Redactions) Of(lsn event.LSN) *RedactedValue { return r.values[lsn] }

// Values are the values by LSN.
func (r *Redactions) Values() (list []RedactedValue) {
	for _, lsn := range slices.Sorted(maps.Keys(r.values)) {
		list = append(list, *r.values[lsn])
	}
	return list
}

// Redacted is a log file written anew without a value, on its way to the name of the old one.
type Redacted struct {
	Seq   uint64    // of the log file
	LSN   event.LSN // of the event whose value goes
	After event.LSN // the event that says so comes after this LSN
}

// Name is what the file is called until it takes the place of the log file, in the directory of the log. Readers pass it over.
func (r Redacted) Name() string {
	return fmt.Sprintf("redact-%010d-%020d-%020d.tmp", r.Seq, uint64(r.LSN), uint64(r.After))
}

var redactedName = regexp.MustCompile(`^redact-([0-9]{10,20})-([0-9]{20})-([0-9]{20})\.tmp$`)

// ParseRedacted is the reverse of Name.
func ParseRedacted(name string) (r Redacted, ok bool) {
	m := redactedName.FindStringSubmatch(name)
	if m == nil {
		return r, false
	}
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(m[i+1], 10, 64); err != nil {
			return r, false
		}
	}
	r = Redacted{Seq: n[0], LSN: event.LSN(n[1]), After: event.LSN(n[2])}
	return r, r.Name() == name
}

// Redaction is what to destroy in a log file that nobody writes to any more.
type Redaction struct {
	// Event is where the wire form of an event begins whose value goes, in the body of the frame at Frame; 0 = in no frame of
	// this file.
	Event, Frame int64
	// Pieces are the offsets of data frames that go as a whole.
	Pieces []int64
}

// Redact writes a log file anew under another name in the directory of the log, synced, with zeros in place of a value. Everything
// stays where it is: a frame that changes keeps its size, and its original CRC, to which the chain goes; it is marked, and so is
// the file's header. The directory is the caller's to sync. step is as in vfs.CopyFile.
func Redact(fsys vfs.FS, dir string, info FileInfo, name string, what *Redaction, step func(b []byte) error) (err error) {
	from, to := path.Join(dir, info.Name), path.Join(dir, name)
	src, head, err := openHeader(fsys, dir, info)
	if err != nil {
		return err
	}
	defer src.Close() // only read from
	if _, err := vfs.CopyFile(fsys, from, fsys, to, -1, step); err != nil {
		return err
	}
	dst, err := fsys.OpenRW(to)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dst.Close(); err == nil {
			err = cerr
		}
	}()
	rewrite := func(offset int64, kind Kind, change func(f *Frame) error) error {
		f, err := ReadFrameAt(src, &head, relName(dir, info.Name), offset)
		if err == nil && f.Kind != kind && (kind != 0 || f.Kind != KindCommit && f.Kind != KindData) {
			err = fmt.Errorf("%s at %d: a %s frame", f.Name, offset, f.Kind)
		}
		if err == nil {
			err = change(f)
		}
		if err != nil {
			return err
		}
		b := make([]byte, FrameSize(len(f.Body)))
		copy(b[FrameHeaderSize:], f.Body)
		f.OrigCRC = f.OriginalCRC()
		f.Flags |= FrameRedacted
		SealFrame(b, f, len(f.Body), BodyCRC(f.Body), &head.Salt, head.Seq, offset)
		_, err = dst.WriteAt(b, offset)
		return err
	}
	if what.Event > 0 {
		err := rewrite(what.Frame, 0, func(f *Frame) error {
			at := what.Event - what.Frame - FrameHeaderSize
			if at < 0 || at >= int64(len(f.Body)) {
				return fmt.Errorf("%s at %d: the event at %d is not in the frame", f.Name, f.Offset, what.Event)
			}
			_, _, n, err := event.ParseWire(f.Body[at:])
			if err == nil {
				_, err = event.Redact(f.Body[at:][:n])
			}
			return locate(err, f.Name, what.Event)
		})
		if err != nil {
			return err
		}
	}
	for _, offset := range what.Pieces {
		err := rewrite(offset, KindData, func(f *Frame) error {
			clear(f.Body)
			return nil
		})
		if err != nil {
			return err
		}
	}
	head.Compat |= CompatRedacted
	b := head.Encode()
	if _, err := dst.WriteAt(b[:], 0); err != nil {
		return err
	}
	return dst.Sync()
}
