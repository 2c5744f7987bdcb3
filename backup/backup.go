package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// Backup is a manifest.
type Backup struct {
	Format   int       `json:"format"`
	ID       string    `json:"id"`
	Log      string    `json:"log"`
	Timeline string    `json:"timeline"`
	Seed     string    `json:"seed"`
	Floor    event.LSN `json:"floor"`
	LSN      event.LSN `json:"lsn"`
	Time     time.Time `json:"time"`
	Files    []File    `json:"files"`

	name  string    // of the manifest's object
	chain []logFile // how the log goes on, as far as it was archived
}

// File is a file of a backup.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Bytes is the size of all files of the backup.
func (b *Backup) Bytes() (n int64) {
	for _, f := range b.Files {
		n += f.Bytes
	}
	return n
}

// ChainBytes is what was archived of the log behind the backup.
func (b *Backup) ChainBytes() (n int64) {
	for _, f := range b.chain {
		n += f.to
	}
	return n
}

const (
	format    = 1
	filesDir  = "files/"
	backupDir = "backups/"
	idForm    = "20060102T150405.000000000Z"
	// maxManifest bounds the bytes of a manifest: 150 for each file.
	maxManifest = 256 << 20
)

func (f *File) object() string { return filesDir + f.SHA256[:2] + "/" + f.SHA256 }

// valid says whether a file can be what a manifest says.
func (f *File) valid() bool {
	b, err := hex.DecodeString(f.SHA256)
	return err == nil && len(b) == sha256.Size && f.SHA256 == strings.ToLower(f.SHA256) && f.Bytes >= 0 && fs.ValidPath(f.Name) && f.Name != "."
}

// Made is what Create did.
type Made struct {
	Backup
	NewFiles, NewBytes int64 // that were put; the others were there
}

// Create backs up the folder of a snapshot at a wall time. Log files, segments and value files that an earlier backup of the log and
// timeline has under the same name and size are not read again: they never change but by growing, unless something in a log file was
// redacted, which its header says. progress, if not nil, is told the bytes done and in all. ErrAnotherCopy is the error of a store that
// has gone on otherwise than an earlier backup.
func Create(ctx context.Context, to Objects, fsys vfs.FS, folder string, now time.Time, progress func(done, total int64)) (Made, error) {
	info, ok, err := snapshot.Read(fsys, folder, "")
	if err == nil && !ok {
		err = fmt.Errorf("%s is no snapshot", folder)
	}
	if err != nil {
		return Made{}, err
	}
	set, err := manifest.Open(fsys, path.Join(folder, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return Made{}, err
	}
	floor, seed := set.Current().FloorLSN, set.HashSeed()
	if err := set.Close(); err != nil {
		return Made{}, err
	}
	m := Made{Backup: Backup{Format: format, ID: now.UTC().Format(idForm), Log: hex.EncodeToString(info.LogID[:]),
		Timeline: hex.EncodeToString(info.Timeline[:]), Seed: hex.EncodeToString(seed[:]), Floor: floor, LSN: info.LSN, Time: time.Unix(0, info.Time).UTC()}}
	if m.Files, err = listFiles(fsys, folder, ""); err != nil {
		return Made{}, err
	}
	known, err := knownFiles(ctx, to, &m.Backup, fsys, folder)
	if err != nil {
		return Made{}, err
	}
	total, done := m.Bytes(), int64(0)
	for i := range m.Files {
		f := &m.Files[i]
		sum := known[*f]
		if sum != "" && isRedacted(fsys, folder, f) {
			sum = ""
		}
		if sum != "" {
			f.SHA256 = sum
		} else {
			put, err := putFile(ctx, to, fsys, path.Join(folder, f.Name), f)
			if err != nil {
				return Made{}, fmt.Errorf("back up %s: %w", f.Name, err)
			}
			if put {
				m.NewFiles, m.NewBytes = m.NewFiles+1, m.NewBytes+f.Bytes
			}
		}
		if done += f.Bytes; progress != nil {
			progress(done, total)
		}
	}
	b, err := json.Marshal(&m.Backup)
	if err != nil {
		return Made{}, err
	}
	sum := sha256.Sum256(b)
	name := fmt.Sprintf("%s%s-%x.json", backupDir, m.ID, sum)
	if err := to.Put(ctx, name, bytes.NewReader(b), int64(len(b))); err != nil {
		return Made{}, fmt.Errorf("put %s: %w", name, err)
	}
	return m, nil
}

// isRedacted says whether a file may be another one than an older copy of the same name and size.
func isRedacted(fsys vfs.FS, folder string, f *File) bool {
	name := strings.TrimPrefix(f.Name, "wal/")
	seq, first, ok := wal.ParseFileName(name)
	if !ok || name == f.Name {
		return false
	}
	head, err := wal.ReadHeader(fsys, path.Join(folder, "wal"), wal.FileInfo{Seq: seq, FirstLSN: first, Name: name, Size: f.Bytes})
	return err != nil || head.Compat&wal.CompatRedacted != 0
}

// listFiles lists the files in and below a folder.
func listFiles(fsys vfs.FS, folder, under string) (list []File, err error) {
	names, err := fsys.List(path.Join(folder, under))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		name = path.Join(under, name)
		info, err := fsys.Stat(path.Join(folder, name))
		if err != nil {
			return nil, err
		}
		if !info.Dir {
			list = append(list, File{Name: name, Bytes: info.Size})
			continue
		}
		more, err := listFiles(fsys, folder, name)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	slices.SortFunc(list, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// knownFiles are the hashes of files that never change and that a backup of an earlier state has, or that were archived when they
// were sealed, as far as their objects are there, by name and size. b is the backup that is being made of a folder.
func knownFiles(ctx context.Context, from Objects, b *Backup, fsys vfs.FS, folder string) (map[File]string, error) {
	all, _, err := List(ctx, from)
	if err != nil {
		return nil, err
	}
	there, err := objects(ctx, from)
	if err != nil {
		return nil, err
	}
	known := map[File]string{}
	for i := range all {
		old := &all[i]
		if old.line() != b.line() {
			continue
		}
		if earlier, err := old.earlier(ctx, from, b, fsys, folder); err != nil {
			return nil, err
		} else if !earlier {
			continue
		}
		for _, f := range old.Files {
			sorted := old.Seed == b.Seed && strings.HasPrefix(f.Name, manifest.Dir+"/")
			log := strings.HasPrefix(f.Name, "wal/") && strings.HasSuffix(f.Name, ".log")
			if size, ok := there[f.object()]; ok && size == f.Bytes && (sorted || log) {
				known[File{Name: f.Name, Bytes: f.Bytes}] = f.SHA256
			}
		}
		for i := range old.chain {
			f := old.chain[i].of()
			if f.SHA256 == "" { // it grows
				continue
			}
			if size, ok := there[f.object()]; ok && size == f.Bytes {
				known[File{Name: f.Name, Bytes: f.Bytes}] = f.SHA256
			}
		}
	}
	return known, nil
}

// earlier says whether a backup is known to be of an earlier state than the one that is being made of a folder: the log file that it
// ends with, which has a salt of its own, is in the folder. If another one is there in its place, the error matches ErrAnotherCopy.
func (b *Backup) earlier(ctx context.Context, from Objects, now *Backup, fsys vfs.FS, folder string) (bool, error) {
	i := b.newestLog()
	if i < 0 {
		return false, nil
	}
	name := path.Base(b.Files[i].Name)
	seq, first, _ := wal.ParseFileName(name)
	have := ""
	for _, f := range now.Files {
		if s, _, ok := wal.ParseFileName(strings.TrimPrefix(f.Name, "wal/")); ok && s == seq {
			have = f.Name
		}
	}
	another := fmt.Errorf("%w: %s is not the one that backup %s ends with; another folder keeps its backups apart", ErrAnotherCopy, have, b.ID)
	switch have {
	case "": // retention has dropped it, or the backup is of a later state
		return false, nil
	case b.Files[i].Name:
	default:
		return false, another
	}
	head, err := wal.ReadHeader(fsys, path.Join(folder, "wal"), wal.FileInfo{Name: name, Seq: seq, FirstLSN: first})
	if err != nil {
		return false, err
	}
	o, err := from.Get(ctx, b.Files[i].object())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // Verify tells
	}
	if err != nil {
		return false, err
	}
	defer o.Close() // only read from
	var text [wal.HeaderSize]byte
	if n, err := o.ReadAt(text[:], 0); n < len(text) && err != io.EOF {
		return false, err
	}
	old, err := wal.ParseHeader(text[:])
	if err != nil {
		return false, nil // Verify tells
	}
	if !old.SameFile(&head) {
		return false, another
	}
	return true, nil
}

// ErrAnotherCopy is matched when a store has the log and timeline of a backup, but has gone on otherwise than that: as two copies of
// one folder do.
var ErrAnotherCopy = errors.New("two copies of one store have gone on, and share the place of backups")

// objects are the files that are there, with their sizes.
func objects(ctx context.Context, from Objects) (map[string]int64, error) {
	list, err := from.List(ctx, filesDir)
	if err != nil {
		return nil, err
	}
	there := map[string]int64{}
	for _, e := range list {
		there[e.Name] = e.Bytes
	}
	return there, nil
}

// putFile hashes a file and puts it, unless it is there.
func putFile(ctx context.Context, to Objects, fsys vfs.FS, name string, f *File) (put bool, err error) {
	file, err := fsys.Open(name)
	if err != nil {
		return false, err
	}
	defer file.Close() // only read from
	sum, err := hashOf(ctx, file, f.Bytes)
	if err != nil {
		return false, err
	}
	f.SHA256 = hex.EncodeToString(sum[:])
	return putChecked(ctx, to, f.object(), file, f.Bytes, f.check)
}

// putChecked puts an object unless it is there. One that is there damaged is put again.
func putChecked(ctx context.Context, to Objects, name string, content io.ReaderAt, size int64,
	check func(context.Context, Objects) (defect, err error)) (put bool, err error) {
	err = to.Put(ctx, name, content, size)
	if errors.Is(err, fs.ErrExist) {
		defect, err := check(ctx, to)
		if err != nil || defect == nil {
			return false, err
		}
		if err := to.Delete(ctx, name); err != nil {
			return false, fmt.Errorf("%w; remove it: %w", defect, err)
		}
		err = to.Put(ctx, name, content, size)
		return err == nil, err
	}
	return err == nil, err
}

// hashOf is the SHA-256 of the first bytes of something.
func hashOf(ctx context.Context, r io.ReaderAt, size int64) (sum [sha256.Size]byte, err error) {
	h, buf := sha256.New(), make([]byte, min(size, copyStep))
	for at := int64(0); at < size; at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		part := buf[:min(int64(len(buf)), size-at)]
		if n, err := r.ReadAt(part, at); n < len(part) {
			return sum, fmt.Errorf("read at %d: %w", at, err)
		}
		h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// List lists the backups, oldest first, with what was archived of the log behind each, by Follow or with later backups, and the damage,
// each with its name: manifests, and parts of log files, that can't be read, and parts behind something that is missing.
func List(ctx context.Context, from Objects) (list []Backup, damage []error, err error) {
	l, err := listAll(ctx, from)
	if err != nil || len(l.stranded) == 0 {
		return l.backups, l.damage, err
	}
	// Who archives the log may have put what was missing before what was there: then it is there now.
	before := l.stranded
	if l, err = listAll(ctx, from); err != nil {
		return nil, nil, err
	}
	for line, p := range l.stranded {
		if _, ok := before[line]; ok {
			l.damage = append(l.damage, corruption.At(p.name, 0, "what was archived of the log before this part is missing, so that it can't be restored"))
		}
	}
	return l.backups, l.damage, nil
}

// listing is what is in a place of objects.
type listing struct {
	backups  []Backup         // oldest first
	pieces   []piece          // in the order of names
	damage   []error          // what can't be read
	stranded map[string]piece // of each line that has them, the first part that lies behind something missing
}

// listAll lists pieces before backups: so what goes on behind a backup that is made meanwhile is not listed without it.
func listAll(ctx context.Context, from Objects) (l listing, err error) {
	if l.pieces, l.damage, err = listPieces(ctx, from, logDir); err != nil {
		return listing{}, err
	}
	entries, err := from.List(ctx, backupDir)
	if err != nil {
		return listing{}, err
	}
	for _, e := range entries {
		b, err := read(ctx, from, e)
		switch {
		case errors.Is(err, corruption.ErrCorrupt) || errors.Is(err, event.ErrUnsupported):
			l.damage = append(l.damage, err)
		case errors.Is(err, fs.ErrNotExist): // it has expired meanwhile
		case err != nil:
			return listing{}, err
		default:
			l.backups = append(l.backups, b)
		}
	}
	lines := map[string][]piece{}
	l.stranded = map[string]piece{}
	for i := range l.backups {
		b := &l.backups[i]
		if _, ok := lines[b.line()]; !ok {
			lines[b.line()] = withFilesOf(l.backups, b.line(), lineOf(l.pieces, b))
		}
		b.chain = chainOf(b, lines[b.line()])
	}
	for line := range lines {
		if p, ok := l.strandedIn(line); ok {
			l.stranded[line] = p
		}
	}
	return l, nil
}

// strandedIn finds the first part of a line that no chain reaches, though a backup begins before it.
func (l *listing) strandedIn(line string) (p piece, ok bool) {
	reached := map[string]int64{} // how far chains go, by log file
	oldest := uint64(math.MaxUint64)
	for i := range l.backups {
		b := &l.backups[i]
		if b.line() != line {
			continue
		}
		if seq, ok := b.newestSeq(); ok {
			oldest = min(oldest, seq)
		}
		for j := range b.chain {
			f := &b.chain[j]
			reached[f.file] = max(reached[f.file], f.to)
		}
	}
	for _, p := range l.pieces {
		if strings.HasPrefix(p.name, line) && p.seq >= oldest && p.to > reached[p.file] {
			return p, true
		}
	}
	return piece{}, false
}

// read reads a manifest.
func read(ctx context.Context, from Objects, e Entry) (b Backup, err error) {
	id, want, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(e.Name, backupDir), ".json"), "-")
	if !ok || e.Bytes > maxManifest {
		return b, corruption.At(e.Name, 0, "no name of a backup, or %d bytes", e.Bytes)
	}
	o, err := from.Get(ctx, e.Name)
	if err != nil {
		return b, err
	}
	defer o.Close() // only read from
	content := make([]byte, e.Bytes)
	if n, err := o.ReadAt(content, 0); n < len(content) {
		return b, fmt.Errorf("read %s: %w", e.Name, err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != want {
		return b, corruption.At(e.Name, 0, "SHA-256 is %x: the manifest is damaged or was cut off", sum)
	}
	if err := json.Unmarshal(content, &b); err != nil {
		return b, corruption.At(e.Name, 0, "%v", err)
	}
	if b.Format != format {
		return b, event.Unsupported("backup format %d of %s", b.Format, e.Name)
	}
	if !slices.IsSortedFunc(b.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) }) {
		return b, corruption.At(e.Name, 0, "backup %s: files are not in the order of their names", b.ID)
	}
	if b.ID != id || slices.ContainsFunc(b.Files, func(f File) bool { return !f.valid() }) {
		return b, corruption.At(e.Name, 0, "backup %s has a file that can't be", b.ID)
	}
	b.name = e.Name
	return b, nil
}

// Find returns the backup of an id, the newest one for an empty id.
func Find(ctx context.Context, from Objects, id string) (Backup, error) {
	list, damage, err := List(ctx, from)
	if err != nil {
		return Backup{}, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if id == "" || list[i].ID == id {
			return list[i], nil
		}
	}
	return Backup{}, errors.Join(append([]error{fmt.Errorf("%w: %q", ErrNoBackup, id)}, damage...)...)
}

// ErrNoBackup is matched when there is no backup of an id, or none at all.
var ErrNoBackup = errors.New("no such backup")

// Gap is what can't be restored: the states between two backups of a timeline, and what was archived behind the first.
type Gap struct {
	Before, After string    // ids of the backups
	From, To      event.LSN // the first and last state that is missing
}

// Gaps finds the gaps between backups of one timeline that follow each other in a list.
func Gaps(list []Backup) (gaps []Gap) {
	last := map[string]*Backup{}
	for i := range list {
		b := &list[i]
		line := b.Log + b.Timeline
		reach, _ := b.Reach()
		if old := last[line]; old != nil {
			if end, _ := old.Reach(); b.Floor > end+1 {
				gaps = append(gaps, Gap{Before: old.ID, After: b.ID, From: end + 1, To: b.Floor - 1})
			} else if end >= reach {
				continue
			}
		}
		last[line] = b
	}
	return gaps
}

// Report is what Verify found.
type Report struct {
	Backups []Backup // that are whole
	Files   int64
	Bytes   int64   // of the files that were read, each once
	Defects []error // each names the backup and the file
	Gaps    []Gap
}

// Verify reads every file of every backup, and what was archived of the log behind it, and holds it against its hash. progress, if
// not nil, is told the bytes done and in all.
func Verify(ctx context.Context, from Objects, progress func(done, total int64)) (r Report, err error) {
	list, damage, err := List(ctx, from)
	if err != nil {
		return r, err
	}
	r.Defects, r.Gaps = damage, Gaps(list)
	v := verification{ctx: ctx, from: from, r: &r, progress: progress, checked: map[string]error{}}
	for i := range list {
		list[i].each(func(name, _ string, bytes int64, _ checker) error {
			if _, ok := v.checked[name]; !ok {
				v.checked[name] = nil
				v.total += bytes
			}
			return nil
		})
	}
	clear(v.checked)
	for i := range list {
		b := &list[i]
		told := len(r.Defects)
		err := b.each(func(name, what string, bytes int64, check checker) error {
			return v.one(b, name, what, bytes, check)
		})
		if err != nil {
			return r, err
		}
		if len(r.Defects) == told {
			r.Backups = append(r.Backups, *b)
		}
	}
	return r, nil
}

type checker func(context.Context, Objects) (defect, err error)

// each visits the objects that a backup with its chain consists of: the object's name, what it is, and how it is checked.
func (b *Backup) each(visit func(name, what string, bytes int64, check checker) error) error {
	for i := range b.Files {
		f := &b.Files[i]
		if err := visit(f.object(), f.Name, f.Bytes, f.check); err != nil {
			return err
		}
	}
	for i := range b.chain {
		f := &b.chain[i]
		if f.sealed != "" && f.name != "" { // else it is a file of another backup
			if err := visit(f.name, "the log behind it, "+f.file, 0, f.check); err != nil {
				return err
			}
			of := f.of()
			if err := visit(of.object(), "the log behind it, "+f.file, of.Bytes, of.check); err != nil {
				return err
			}
		}
		for j := range f.parts {
			p := &f.parts[j]
			if err := visit(p.name, "the log behind it, a part of "+p.file, p.bytes(), p.check); err != nil {
				return err
			}
		}
	}
	return nil
}

// verification is the work of Verify.
type verification struct {
	ctx      context.Context
	from     Objects
	r        *Report
	progress func(done, total int64)
	total    int64
	checked  map[string]error // by object
}

func (v *verification) one(b *Backup, name, what string, bytes int64, check checker) error {
	defect, ok := v.checked[name]
	if !ok {
		var err error
		if defect, err = check(v.ctx, v.from); err != nil {
			return err
		}
		v.checked[name] = defect
		v.r.Files, v.r.Bytes = v.r.Files+1, v.r.Bytes+bytes
		if v.progress != nil {
			v.progress(v.r.Bytes, v.total)
		}
	}
	if defect != nil {
		v.r.Defects = append(v.r.Defects, fmt.Errorf("backup %s, %s: %w", b.ID, what, defect))
	}
	return nil
}

// check reads a file of a backup.
func (f *File) check(ctx context.Context, from Objects) (defect, err error) {
	o, err := from.Get(ctx, f.object())
	if errors.Is(err, fs.ErrNotExist) {
		return corruption.At(f.object(), 0, "the object is missing"), nil
	}
	if err != nil {
		return nil, err
	}
	defer o.Close() // only read from
	size, err := o.Size()
	if err != nil {
		return nil, err
	}
	if size != f.Bytes {
		return corruption.At(f.object(), min(size, f.Bytes), "%d bytes, want %d", size, f.Bytes), nil
	}
	sum, err := hashOf(ctx, o, size)
	if err == nil && hex.EncodeToString(sum[:]) != f.SHA256 {
		return corruption.At(f.object(), 0, "SHA-256 is %x", sum), nil
	}
	return nil, err
}

// Expiry is what Expire does.
type Expiry struct {
	Remove []Backup
	Keep   []Backup
	Parts  []Entry // of the log, that was archived behind those that go
	Files  []Entry // that only those that go have
	Bytes  int64   // of parts and files
}

// PlanExpire says which backups go: of each log all but the newest keep of them, those younger than age, and always the newest.
// What was archived of the log behind the oldest that stays stays.
func PlanExpire(ctx context.Context, from Objects, keep int, age time.Duration, now time.Time) (e Expiry, err error) {
	l, err := listAll(ctx, from)
	if err == nil && len(l.damage) > 0 { // what it needs is not known
		err = fmt.Errorf("nothing expires while a manifest is damaged: %w", l.damage[0])
	}
	if err != nil {
		return e, err
	}
	list, pieces := l.backups, l.pieces
	later := map[string]int{} // backups of each log that have not been looked at
	for i := range list {
		later[list[i].Log]++
	}
	needed, gone := map[string]bool{}, map[string]bool{}
	oldest := map[string]uint64{} // of each line that has a backup which stays: its oldest log file that was followed
	for i := range list {
		b := &list[i]
		made, err := time.Parse(idForm, b.ID)
		if err != nil {
			return e, corruption.At(backupDir+b.ID, 0, "%v", err)
		}
		later[b.Log]--
		keeps := needed
		if later[b.Log] >= max(keep, 1) && now.Sub(made) >= age {
			e.Remove = append(e.Remove, *b)
			keeps = gone
		} else {
			e.Keep = append(e.Keep, *b)
			if seq, ok := b.newestSeq(); ok {
				if old, ok := oldest[b.line()]; !ok || seq < old {
					oldest[b.line()] = seq
				}
			}
		}
		for _, f := range b.Files {
			keeps[f.object()] = true
		}
	}
	whole := map[string]bool{} // log files that an interrupted follower may have left parts of
	for i := range pieces {
		if pieces[i].sealed != "" {
			whole[pieces[i].folder()] = true
		}
	}
	for i := range pieces {
		p := &pieces[i]
		seq, ok := oldest[path.Dir(path.Dir(p.name))+"/"]
		stays := ok && p.seq >= seq && (p.sealed != "" || !whole[p.folder()])
		if p.sealed != "" {
			if stays {
				needed[p.of().object()] = true
			} else {
				gone[p.of().object()] = true
			}
		}
		if !stays {
			e.Parts = append(e.Parts, Entry{Name: p.name, Bytes: p.bytes()})
			e.Bytes += p.bytes()
		}
	}
	entries, err := from.List(ctx, filesDir)
	for _, o := range entries {
		if gone[o.Name] && !needed[o.Name] {
			e.Files, e.Bytes = append(e.Files, o), e.Bytes+o.Bytes
		}
	}
	return e, err
}

// Expire does what PlanExpire says. Manifests go first, then what was archived behind them.
func Expire(ctx context.Context, from Objects, e *Expiry) error {
	entries, err := from.List(ctx, backupDir)
	if err != nil {
		return err
	}
	for _, o := range entries {
		if slices.ContainsFunc(e.Remove, func(b Backup) bool { return strings.HasPrefix(o.Name, backupDir+b.ID+"-") }) {
			if err := from.Delete(ctx, o.Name); err != nil {
				return err
			}
		}
	}
	for _, o := range slices.Concat(e.Parts, e.Files) {
		if err := from.Delete(ctx, o.Name); err != nil {
			return err
		}
	}
	return nil
}
