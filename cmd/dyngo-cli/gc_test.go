package main

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/dyngodb/dyngo"
)

// rolled makes a store whose log has several files of 1 MiB:
//
//	rolled DIR
//
// Each file is full of values of one key; the large value of the key "large" lies in the second.
func rolled() {
	if err := roll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "rolled:", err)
		os.Exit(1)
	}
}

func roll(dir string) (err error) {
	db, err := dyngo.Open(dir, &dyngo.Options{LogFileBytes: 1 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 256 << 10})
	if err != nil {
		return err
	}
	for i := range 30 {
		value := make([]byte, 200<<10)
		key := "filled"
		if i == 7 {
			key, value = "large", make([]byte, 300<<10)
		}
		if _, err := ds.Put([]byte(key), value); err != nil {
			return err
		}
	}
	return nil
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "1K": 1 << 10, "2MiB": 2 << 20, "3 GB": 3 << 30, "1tib": 1 << 40} {
		if n, ok := parseSize(text); n != want || !ok {
			t.Errorf("%q is %d, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", "x", "-1", "1X", "1KK", "9999999999999T", "1.5G"} {
		if n, ok := parseSize(text); ok {
			t.Errorf("%q is %d", text, n)
		}
	}
}
