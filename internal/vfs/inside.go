package vfs

import (
	"path/filepath"
	"strings"
)

// Inside reports whether a path of the machine's file system is a directory, or lies in it, once links are followed. Neither need
// be there.
func Inside(name, dir string) (bool, error) {
	name, err := resolve(name)
	if err != nil {
		return false, err
	}
	if dir, err = resolve(dir); err != nil {
		return false, err
	}
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

// resolve follows the links of what is there of a path.
func resolve(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	rest := ""
	for at := name; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest), nil
		}
		if at == filepath.Dir(at) {
			return name, nil
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
