// Package formattest has what the tests of packages with a format on disk share: the bytes that their package comments draw,
// and what a decoder may say to bytes from outside. It promises no compatibility.
package formattest

import (
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/corruption"
)

var hexLine = regexp.MustCompile(`^//\t((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2,}.*)?$`)

// Drawn are the bytes that doc.go draws between two texts.
func Drawn(t *testing.T, from, to string) (b []byte) {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(doc), from)
	example, _, _ = strings.Cut(example, to)
	for _, line := range strings.Split(example, "\n") {
		if m := hexLine.FindStringSubmatch(line); m != nil {
			part, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, part...)
		}
	}
	return b
}

// Known returns a check that fails the test if a decoder's error is neither corruption within n bytes nor unsupported.
func Known(unsupported error) func(t *testing.T, err error, n int) {
	return func(t *testing.T, err error, n int) {
		t.Helper()
		var ce *corruption.Error
		switch {
		case errors.As(err, &ce):
			if ce.Offset < 0 || ce.Offset > int64(n) {
				t.Fatalf("offset %d in %d bytes: %v", ce.Offset, n, err)
			}
		case !errors.Is(err, unsupported):
			t.Fatalf("neither corrupt nor unsupported: %v", err)
		}
	}
}
