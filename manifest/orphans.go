package manifest

import (
	"path"
	"slices"

	"github.com/dyngodb/dyngo/internal/corruption"
)

// Check compares the current version with the names in the directory of segments and value files (see Dir), before any
// number was given out. A file that is not there, or files without any manifest, are corruption: an edit was lost that
// had been durable, or a file was. What was set aside may be missing.
func (s *Set) Check(listed []string) error {
	there := map[string]bool{}
	for _, name := range listed {
		if _, _, ok := ParseName(name); ok && !s.found && !s.numbered.Load() {
			return corruption.At(path.Base(s.dir), 0, "there is no manifest, but one was durable before %s was made",
				path.Join(Dir, name))
		}
		there[name] = true
	}
	v := s.Current()
	for seg := range v.All() {
		if !there[SegmentName(seg.Num)] {
			return s.missing(SegmentName(seg.Num))
		}
	}
	for _, seg := range v.History {
		if !there[SegmentName(seg.Num)] {
			return s.missing(SegmentName(seg.Num))
		}
	}
	for _, f := range v.Values {
		if !there[ValueName(f.Num)] {
			return s.missing(ValueName(f.Num))
		}
	}
	return nil
}

func (s *Set) missing(name string) error {
	why := "the file is missing, but the manifest has it"
	if s.tail.CutBytes > 0 {
		why += "; " + s.tail.File + " ends with bytes that may have been the edit that removed it"
	}
	return corruption.At(path.Join(Dir, name), 0, "%s", why)
}

// Orphans returns those of the names in the directory of segments and value files that no version has: what a crash
// left behind, to be removed. It checks first and returns no orphans if Check fails. The set must have been started, so
// that what Orphans goes by is durable, and no number may have been given out: none of those listed will be.
func (s *Set) Orphans(listed []string) (orphans []string, err error) {
	s.mustBeStarted("Orphans")
	if s.numbered.Load() {
		panic("dyngo: bug: manifest: Orphans after NewFileNum")
	}
	if err := s.Check(listed); err != nil {
		return nil, err
	}
	known := s.lives.held()
	s.Current().AddNums(known)
	for _, name := range listed {
		num, _, ok := ParseName(name)
		if !ok || known[num] {
			continue
		}
		raise(&s.nextFile, uint64(num)+1)
		orphans = append(orphans, name)
	}
	slices.Sort(orphans)
	return orphans, nil
}

// AddNums adds the numbers of all files that the version has, those that were set aside included.
func (v *Version) AddNums(known map[FileNum]bool) {
	for s := range v.All() {
		known[s.Num] = true
	}
	for _, s := range v.History {
		known[s.Num] = true
	}
	for _, f := range v.Values {
		known[f.Num] = true
	}
	for _, d := range v.Damaged {
		known[d.Segment.Num] = true
	}
}
