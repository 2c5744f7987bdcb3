package wal_test

import (
	"context"
	"fmt"
	"io"

	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

func ExampleScanner() {
	s, err := wal.NewScanner(vfs.OS, "../testdata/format1/torn/wal", wal.ScanOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for {
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		if f.Kind == wal.KindCommit {
			fmt.Printf("file %d: %d events from LSN %d on\n", f.File, f.Count, f.BaseLSN)
		}
	}
	tail := s.Tail()
	fmt.Printf("ends before LSN %d; a crash left %d bytes\n", tail.NextLSN, tail.CutBytes)
	// Output:
	// file 1: 3 events from LSN 1 on
	// file 2: 2 events from LSN 4 on
	// ends before LSN 6; a crash left 100 bytes
}

func ExampleVerify() {
	r, err := wal.Verify(context.Background(), vfs.OS, "../testdata/format1/plain/wal", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d files, %d events, %d defects\n", r.Files, r.Events, len(r.Defects))
	// Output: 2 files, 14 events, 0 defects
}
