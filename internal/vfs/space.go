package vfs

import (
	"path"
	"strings"
)

// space is what the files of a Fault take up, in blocks, against a quota. It knows files by name from when they are
// created or opened through the Fault.
type space struct {
	quota int64 // bytes, negative for none
	used  int64 // bytes, whole blocks
	files map[string]*usage
}

// usage is the space of one file, however many names it has.
type usage struct {
	blocks  map[int64]bool
	names   int
	handles int
}

func (s *space) init() {
	s.quota = -1
	s.files = map[string]*usage{}
}

// SetQuota limits the space of the files created, or opened, through this Fault to a number of bytes, which may be
// below what they take already; negative takes the limit away. Space is counted in blocks of 4 KiB when they are first
// written; holes are free, so are directories and names. What is removed counts until it is closed.
func (f *Fault) SetQuota(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.space.quota = bytes
}

// Count counts the files in and below a directory as if they had been opened: for a quota over what another Fault, of a
// process that ended, has left there. The calls that this takes are not judged.
func (f *Fault) Count(dir string) error {
	names, err := f.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := f.fs.Stat(name)
		if err == nil && info.Dir {
			err = f.Count(name)
		}
		if err != nil {
			return err
		}
		if !info.Dir {
			f.mu.Lock()
			f.mu.space.at(name, info.Size)
			f.mu.Unlock()
		}
	}
	return nil
}

// Used returns the bytes that count against a quota.
func (f *Fault) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.space.used
}

// reserve takes the space for a write of n bytes and returns how many of them have it.
func (f *Fault) reserve(u *usage, off int64, n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.mu.space
	for i := max(off, 0) / blockSize; n > 0 && i*blockSize < off+int64(n); i++ {
		if u.blocks[i] {
			continue
		}
		if s.quota >= 0 && s.used+blockSize > s.quota {
			return max(0, int(i*blockSize-off))
		}
		u.blocks[i] = true
		s.used += blockSize
	}
	return n
}

// opened notes that a file is open.
func (s *space) opened(name string, size int64) *usage {
	u := s.at(name, size)
	u.handles++
	return u
}

// at finds or adds the usage of a file. One not seen before is taken to have no holes.
func (s *space) at(name string, size int64) *usage {
	name = path.Clean("/" + name)
	u := s.files[name]
	if u == nil {
		u = &usage{blocks: map[int64]bool{}, names: 1}
		for i := range (size + blockSize - 1) / blockSize {
			u.blocks[i] = true
			s.used += blockSize
		}
		s.files[name] = u
	}
	return u
}

func (s *space) closed(u *usage) {
	u.handles--
	s.dropIfUnused(u)
}

func (s *space) dropIfUnused(u *usage) {
	if u.names == 0 && u.handles == 0 {
		s.used -= int64(len(u.blocks)) * blockSize
		clear(u.blocks)
	}
}

func (s *space) removed(name string) {
	name = path.Clean("/" + name)
	if u := s.files[name]; u != nil {
		delete(s.files, name)
		u.names--
		s.dropIfUnused(u)
	}
}

func (s *space) renamed(oldName, newName string) {
	oldName, newName = path.Clean("/"+oldName), path.Clean("/"+newName)
	if u := s.files[oldName]; u != nil && u == s.files[newName] {
		return // two names of one file: nothing has happened
	}
	s.removed(newName)
	for name, u := range s.files {
		if name == oldName || strings.HasPrefix(name, oldName+"/") {
			delete(s.files, name)
			s.files[newName+name[len(oldName):]] = u
		}
	}
}

func (s *space) linked(oldName, newName string) {
	if u := s.files[path.Clean("/"+oldName)]; u != nil {
		u.names++
		s.files[path.Clean("/"+newName)] = u
	}
}

func (s *space) truncated(u *usage, size int64) {
	for i := range u.blocks {
		if i*blockSize >= size {
			delete(u.blocks, i)
			s.used -= blockSize
		}
	}
}
