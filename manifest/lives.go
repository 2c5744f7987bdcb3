package manifest

import (
	"fmt"
	"slices"
	"sync"
)

// lives knows which versions are held, and which files have left the current version but not all of them.
//
// A file is in the versions from the edit that added it to the one before the edit that removed it: it may go when none
// of these is held.
type lives struct {
	mu struct {
		sync.Mutex // guards the fields below; a leaf, never held while a callback runs

		versions []*Version         // with references, oldest first
		born     map[FileNum]uint64 // edit that added a file of the current version; missing = before the set was opened
		gone     []goneFile         // oldest first
		closed   bool
	}
}

type goneFile struct {
	removal
	from, to uint64 // it is in the versions of edits [from, to)
}

func (l *lives) init(v *Version) {
	l.mu.versions = []*Version{v}
	l.mu.born = map[FileNum]uint64{}
}

// install adds a version, which the edit made.
func (l *lives) install(v *Version, e *Edit, removed []removal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range removed {
		l.mu.gone = append(l.mu.gone, goneFile{r, l.mu.born[r.num], v.Edits})
		delete(l.mu.born, r.num)
	}
	for _, s := range e.Add {
		if !slices.Contains(e.Remove, s.Num) { // it is moved
			l.addLocked(s.Num, v)
		}
	}
	for _, s := range e.AddHistory {
		l.addLocked(s.Num, v)
	}
	for _, f := range e.AddValues {
		l.addLocked(f.Num, v)
	}
	l.mu.versions = append(l.mu.versions, v)
}

func (l *lives) addLocked(num FileNum, v *Version) {
	if slices.ContainsFunc(l.mu.gone, func(g goneFile) bool { return g.num == num }) {
		panic(fmt.Sprintf("dyngo: bug: manifest: edit %d adds file %s, which an earlier one removed", v.Edits, num))
	}
	l.mu.born[num] = v.Edits
}

// retire removes a version whose last reference is gone, and tells of the files that go with it.
func (s *Set) retire(v *Version) {
	for _, f := range s.lives.retire(v) {
		call := s.opts.Obsolete
		if f.value {
			call = s.opts.ObsoleteValues
		}
		if call != nil {
			call(f.num)
		}
	}
}

func (l *lives) retire(v *Version) (obsolete []goneFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.mu.versions, v)
	l.mu.versions = slices.Delete(l.mu.versions, i, i+1)
	if l.mu.closed {
		return nil
	}
	l.mu.gone = slices.DeleteFunc(l.mu.gone, func(g goneFile) bool {
		held := slices.ContainsFunc(l.mu.versions, func(v *Version) bool { return g.from <= v.Edits && v.Edits < g.to })
		if !held {
			obsolete = append(obsolete, g)
		}
		return !held
	})
	return obsolete
}

func (l *lives) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed = true
}

// held returns the numbers of files that left the current version and that an older one holds.
func (l *lives) held() map[FileNum]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	nums := map[FileNum]bool{}
	for _, g := range l.mu.gone {
		nums[g.num] = true
	}
	return nums
}
