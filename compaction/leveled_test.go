package compaction

import (
	"cmp"
	"slices"

	"github.com/dyngodb/dyngo/event"
)

// leveled is the yardstick: a store as engines with levels have it, ten times as large from level to level, level 0 of
// flushes, the file that rewrites least of the next level merged first. It counts the bytes that it would write.
type leveled struct {
	entry, file    int64 // bytes of an entry, of a file of the last level
	levels         [8][]levelFile
	mem            map[uint64]simEntry
	memMax         int
	lsn            event.LSN
	written, added int64
}

type levelFile struct{ es []simEntry }

func (f *levelFile) lo() uint64 { return f.es[0].key }
func (f *levelFile) hi() uint64 { return f.es[len(f.es)-1].key }

func newLeveled(memEntries int, fileBytes int64) *leveled {
	return &leveled{entry: fileBytes / int64(memEntries), file: fileBytes, memMax: memEntries, mem: map[uint64]simEntry{}}
}

func (l *leveled) put(k uint64) { l.write(simEntry{key: k}) }
func (l *leveled) del(k uint64) { l.write(simEntry{key: k, gone: true}) }

func (l *leveled) write(e simEntry) {
	l.lsn++
	e.lsn = l.lsn
	l.mem[e.key] = e
	l.added += l.entry
	if len(l.mem) < l.memMax {
		return
	}
	var es []simEntry
	for _, e := range l.mem {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b simEntry) int { return cmp.Compare(a.key, b.key) })
	clear(l.mem)
	l.levels[0] = append(l.levels[0], levelFile{es})
	l.written += int64(len(es)) * l.entry
	for l.compact() {
	}
}

func (l *leveled) bytes(n int) (sum int64) {
	for i := range l.levels[n] {
		sum += int64(len(l.levels[n][i].es)) * l.entry
	}
	return sum
}

// targets returns the size that each level should have, and the first level that is used.
func (l *leveled) targets() (t [8]int64, base int) {
	last := len(l.levels) - 1
	t[last] = max(l.bytes(last), 1)
	for base = last; base > 1 && t[base] > l.file; base-- {
		t[base-1] = t[base] / 10
	}
	return t, base
}

func (l *leveled) compact() bool {
	t, base := l.targets()
	last := len(l.levels) - 1
	level, score := 0, float64(len(l.levels[0]))/4
	for n := base; n < last; n++ {
		if s := float64(l.bytes(n)) / float64(t[n]); s > score {
			level, score = n, s
		}
	}
	if score < 1 {
		return false
	}
	if level == 0 {
		in := l.levels[0]
		l.levels[0] = nil
		l.merge(in, base)
		return true
	}
	best, least := 0, 0.0
	for i := range l.levels[level] {
		f := &l.levels[level][i]
		under := 0
		for k := range l.levels[level+1] {
			if o := &l.levels[level+1][k]; o.lo() <= f.hi() && f.lo() <= o.hi() {
				under += len(o.es)
			}
		}
		if r := float64(under) / float64(len(f.es)); i == 0 || r < least {
			best, least = i, r
		}
	}
	f := l.levels[level][best]
	l.levels[level] = slices.Delete(l.levels[level], best, best+1)
	l.merge([]levelFile{f}, level+1)
	return true
}

// merge merges files into a level. A single file with nothing below it is moved.
func (l *leveled) merge(in []levelFile, level int) {
	lo, hi := in[0].lo(), in[0].hi()
	for i := range in {
		lo, hi = min(lo, in[i].lo()), max(hi, in[i].hi())
	}
	var keep []levelFile
	inputs := len(in)
	for _, f := range l.levels[level] {
		if f.lo() <= hi && lo <= f.hi() {
			in = append(in, f)
		} else {
			keep = append(keep, f)
		}
	}
	if inputs == 1 && len(in) == 1 {
		l.levels[level] = append(keep, in[0])
		return
	}
	newest := map[uint64]simEntry{}
	for _, f := range in {
		for _, e := range f.es {
			if o, ok := newest[e.key]; !ok || o.lsn < e.lsn {
				newest[e.key] = e
			}
		}
	}
	var es []simEntry
	for _, e := range newest {
		if !e.gone || level < len(l.levels)-1 {
			es = append(es, e)
		}
	}
	slices.SortFunc(es, func(a, b simEntry) int { return cmp.Compare(a.key, b.key) })
	l.written += int64(len(es)) * l.entry
	size := int(l.file / l.entry)
	for n := level; n < len(l.levels)-1 && size > 1; n++ {
		size = max(size/2, int(l.file/l.entry)/16, 1)
	}
	for part := range slices.Chunk(es, size) {
		keep = append(keep, levelFile{slices.Clone(part)})
	}
	l.levels[level] = keep
}

func (l *leveled) amplification() float64 { return float64(l.written) / float64(l.added) }
