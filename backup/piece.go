package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/wal"
)

// piece is an object of a log that was archived while it grew: a part of a log file, the record that its parts are all of it, or that of
// a file that is whole. The package comment draws its name.
type piece struct {
	log, timeline string // ids
	file          string // name of the log file
	seq           uint64 // of the file
	first         event.LSN
	from, to      int64     // bytes of the file; those of a record are all
	lsn           event.LSN // of the last event that ends in the file up to to
	time          time.Time // its log time
	chain         uint32    // original CRC of the frame that the event is in
	ended         bool      // it is the record that parts are all of the file
	sealed        string    // SHA-256 of the file, of the record that it is whole; else ""
	name          string    // of the object
}

const (
	logDir     = "log/"
	logForm    = logDir + "1/"
	endedMark  = "ended"
	sealedMark = "sealed"
)

// record says whether the object has no content.
func (p *piece) record() bool { return p.ended || p.sealed != "" }

// bytes is the size of the object.
func (p *piece) bytes() int64 {
	if p.record() {
		return 0
	}
	return p.to - p.from
}

// prefix is the object's name without the SHA-256 that it ends with.
func (p *piece) prefix() string {
	from, sum := fmt.Sprintf("%020d", p.from), ""
	switch {
	case p.ended:
		from = endedMark
	case p.sealed != "":
		from, sum = sealedMark, p.sealed+"-"
	}
	return fmt.Sprintf("%s%s-%020d-%020d-%s-%08x-%s", p.folder(), from, p.to, uint64(p.lsn), p.time.UTC().Format(idForm), p.chain, sum)
}

// folder is where the objects of a log file are.
func (p *piece) folder() string { return logForm + p.log + "/" + p.timeline + "/" + p.file + "/" }

// sum is the SHA-256 that the name ends with: of what stands before it, and the content.
func (p *piece) sum(content []byte) string {
	h := sha256.New()
	h.Write([]byte(p.prefix()))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// parsePiece reads the name of an object back. It has one spelling.
func parsePiece(e Entry) (p piece, err error) {
	parts := strings.Split(e.Name, "/")
	if len(parts) > 1 && parts[0]+"/" == logDir && parts[1] != "1" {
		return p, event.Unsupported("form %s of archived log files, in %s", parts[1], e.Name)
	}
	bad := corruption.At(e.Name, 0, "no name of a part of a log file, or %d bytes", e.Bytes)
	if len(parts) != 6 {
		return p, bad
	}
	fields := strings.Split(parts[5], "-")
	p = piece{log: parts[2], timeline: parts[3], file: parts[4], name: e.Name}
	var ok bool
	if p.seq, p.first, ok = wal.ParseFileName(p.file); !ok || len(fields) < 6 || !isHex(p.log, 16) || !isHex(p.timeline, 16) {
		return p, bad
	}
	if p.ended = fields[0] == endedMark; p.ended {
		if len(fields) != 6 {
			return p, bad
		}
	} else if fields[0] == sealedMark {
		if len(fields) != 7 || !isHex(fields[5], sha256.Size) {
			return p, bad
		}
		p.sealed = fields[5]
	} else if p.from, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
		return p, bad
	}
	var lsn, chain uint64
	var errs [4]error
	p.to, errs[0] = strconv.ParseInt(fields[1], 10, 64)
	lsn, errs[1] = strconv.ParseUint(fields[2], 10, 63)
	p.time, errs[2] = time.Parse(idForm, fields[3])
	chain, errs[3] = strconv.ParseUint(fields[4], 16, 32)
	p.lsn, p.chain = event.LSN(lsn), uint32(chain)
	sum := fields[len(fields)-1]
	if errors.Join(errs[:]...) != nil || p.to <= p.from || p.from < 0 || e.Bytes != p.bytes() || !isHex(sum, sha256.Size) || p.prefix()+sum != e.Name {
		return p, bad
	}
	return p, nil
}

func isHex(s string, bytes int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*bytes && s == strings.ToLower(s)
}

// of returns the file that a record stands for.
func (p *piece) of() *File { return &File{Name: "wal/" + p.file, Bytes: p.to, SHA256: p.sealed} }

// content reads a part and holds it against its name.
func (p *piece) content(ctx context.Context, from Objects) ([]byte, error) {
	o, err := from.Get(ctx, p.name)
	if err != nil {
		return nil, err
	}
	defer o.Close() // only read from
	size, err := o.Size()
	if err != nil {
		return nil, err
	}
	if want := p.bytes(); size != want || size > maxPiece {
		return nil, corruption.At(p.name, min(size, want), "%d bytes, want %d", size, want)
	}
	b := make([]byte, size)
	if n, err := o.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %s: %w", p.name, err)
	}
	if !strings.HasSuffix(p.name, p.sum(b)) {
		return nil, corruption.At(p.name, 0, "its SHA-256 is %s", p.sum(b))
	}
	return b, nil
}

// check is content for who only wants to know whether it is sound. The file that a record stands for is another object. If who archives
// the log has put the part together with others meanwhile, what it became is checked.
func (p *piece) check(ctx context.Context, from Objects) (defect, err error) {
	_, err = p.content(ctx, from)
	if errors.Is(err, corruption.ErrCorrupt) {
		return err, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	now, _, err := listPieces(ctx, from, p.folder())
	if err != nil {
		return nil, err
	}
	for i := range now {
		switch q := &now[i]; {
		case q.sealed != "" && q.to >= p.to:
			return q.of().check(ctx, from)
		case !q.record() && !p.record() && q.from <= p.from && q.to >= p.to && q.name != p.name:
			return q.check(ctx, from)
		}
	}
	return corruption.At(p.name, 0, "the object is missing"), nil
}

// listPieces lists what was archived of logs below a name, in the order of names: by log, timeline, file and place. What can't be
// read is damage.
func listPieces(ctx context.Context, from Objects, below string) (list []piece, damage []error, err error) {
	entries, err := from.List(ctx, below)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		p, err := parsePiece(e)
		if err != nil {
			damage = append(damage, err)
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b piece) int {
		return cmp.Or(strings.Compare(path.Dir(path.Dir(a.name)), path.Dir(path.Dir(b.name))), cmp.Compare(a.seq, b.seq), strings.Compare(a.name, b.name))
	})
	return list, damage, nil
}

// logFile is a log file of a chain, from its beginning as far as it was archived.
type logFile struct {
	piece         // to, lsn, time and chain are those of its end
	whole bool    // the log goes on in the next file
	parts []piece // what it consists of, without a hole, unless it is sealed; with the record that they are all
}

// fileOf puts the objects of one log file together. ok is false if the beginning is missing.
func fileOf(pieces []piece) (f logFile, ok bool) {
	last := pieces[len(pieces)-1]
	if last.sealed != "" { // it sorts behind all
		return logFile{piece: last, whole: true}, true
	}
	for at, i := int64(0), 0; ; {
		best := -1
		for ; i < len(pieces) && pieces[i].from <= at && !pieces[i].ended; i++ {
			if pieces[i].to > at && (best < 0 || pieces[i].to > pieces[best].to) {
				best = i
			}
		}
		if best < 0 {
			if last.ended && len(f.parts) > 0 && f.to == last.to {
				f.piece, f.whole, f.parts = last, true, append(f.parts, last)
			}
			return f, len(f.parts) > 0
		}
		f.parts = append(f.parts, pieces[best])
		f.piece = pieces[best]
		f.from, at = 0, f.to
	}
}

// chainOf puts together how the log goes on behind a backup, from what was archived of its log and timeline, in the order of files.
func chainOf(b *Backup, pieces []piece) (chain []logFile) {
	seq, ok := b.newestSeq()
	i, found := slices.BinarySearchFunc(pieces, seq, func(p piece, seq uint64) int { return cmp.Compare(p.seq, seq) })
	if !ok || !found {
		return nil
	}
	for next := b.LSN + 1; i < len(pieces); {
		end := i
		for end < len(pieces) && pieces[end].file == pieces[i].file {
			end++
		}
		f, ok := fileOf(pieces[i:end])
		if !ok || pieces[i].first != next {
			break
		}
		chain = append(chain, f)
		if !f.whole {
			break
		}
		i, next = end, f.lsn+1
	}
	return chain
}

// rank puts records behind the parts of a file, and that of a whole one last.
func (p *piece) rank() int {
	switch {
	case p.sealed != "":
		return 2
	case p.ended:
		return 1
	}
	return 0
}

// withFilesOf adds, to what was archived of a line, the log files that its backups have, oldest first. They have no record of their
// own; when the last event in one was, is known of those that a backup ends with.
func withFilesOf(list []Backup, line string, pieces []piece) []piece {
	var more []piece
	have := map[string]bool{}
	for i := range pieces {
		if pieces[i].sealed != "" {
			have[pieces[i].file] = true
		}
	}
	for i := range list {
		b := &list[i]
		if b.line() != line {
			continue
		}
		var last *piece // the file behind it tells where it ends
		for _, f := range b.Files {
			name := strings.TrimPrefix(f.Name, "wal/")
			seq, first, ok := wal.ParseFileName(name)
			if !ok || name == f.Name {
				continue
			}
			if last != nil && !have[last.file] {
				have[last.file] = true
				if last.lsn = first - 1; last.lsn == b.LSN {
					last.time = b.Time
				}
				more = append(more, *last)
			}
			last = &piece{log: b.Log, timeline: b.Timeline, file: name, seq: seq, first: first, to: f.Bytes, sealed: f.SHA256}
		}
	}
	more = append(more, pieces...)
	slices.SortStableFunc(more, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), strings.Compare(a.file, b.file), cmp.Compare(a.rank(), b.rank()))
	})
	return more
}

// newestLog is the index of the log file that a backup ends with, -1 if it has none.
func (b *Backup) newestLog() int {
	for i := len(b.Files) - 1; i >= 0; i-- {
		if _, _, ok := wal.ParseFileName(strings.TrimPrefix(b.Files[i].Name, "wal/")); ok {
			return i
		}
	}
	return -1
}

// newestSeq is the sequence of that file; ok is false if there is none.
func (b *Backup) newestSeq() (seq uint64, ok bool) {
	i := b.newestLog()
	if i < 0 {
		return 0, false
	}
	seq, _, ok = wal.ParseFileName(path.Base(b.Files[i].Name))
	return seq, ok
}

// line is what a chain goes on in.
func (b *Backup) line() string { return logForm + b.Log + "/" + b.Timeline + "/" }

// Reach is the newest state that a backup can be restored to, with what was archived of the log since, and its log time, or an
// earlier one if it is not known.
func (b *Backup) Reach() (lsn event.LSN, at time.Time) {
	lsn, at = b.LSN, b.Time
	for i := range b.chain {
		if f := &b.chain[i]; f.lsn > lsn {
			lsn = f.lsn
			if f.time.After(at) {
				at = f.time
			}
		}
	}
	return lsn, at
}

// lineOf are those of the log and timeline that a backup is of, in a list in the order of names.
func lineOf(pieces []piece, b *Backup) []piece {
	below := func(p piece, line string) int { return strings.Compare(p.name[:min(len(p.name), len(line))], line) }
	i, _ := slices.BinarySearchFunc(pieces, b.line(), below)
	j := i
	for j < len(pieces) && below(pieces[j], b.line()) == 0 {
		j++
	}
	return pieces[i:j]
}
