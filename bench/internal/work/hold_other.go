//go:build !linux

package work

import (
	"os"
)

func dropCache(string) error { return errNotLinux }

func holdCache(string, int64) (release func(), err error) { return nil, errNotLinux }

// diskUsage adds up the sizes of the files in and below dir.
func diskUsage(dir string) (bytes int64) {
	for _, name := range storeFiles(dir) {
		if st, err := os.Stat(name); err == nil {
			bytes += st.Size()
		}
	}
	return bytes
}
