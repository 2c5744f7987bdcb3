package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// inMemoryValue is the size up to which a value is read into memory as a whole: what the engine
// takes by Put with its default memory. Above, it is streamed.
const inMemoryValue = 64 << 20

// A source is a value to store: in memory, or a file to stream from.
type source struct {
	data []byte
	file *os.File // nil if data holds it
	size int64
	temp bool // file is ours to remove
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close()
		if s.temp {
			os.Remove(s.file.Name())
		}
	}
}

// openValue finds the value that arg stands for: itself, - for stdin, @FILE for a file's bytes.
func openValue(cmd *cobra.Command, arg string) (*source, error) {
	switch name, isFile := strings.CutPrefix(arg, "@"); {
	case arg == "-":
		return readValue(cli.Stdin(cmd))
	case isFile:
		return fileValue(name)
	}
	return &source{data: []byte(arg), size: int64(len(arg))}, nil
}

func fileValue(name string) (*source, error) {
	f, err := os.Open(name)
	if err != nil {
		code := cli.ExitFailure
		if errors.Is(err, os.ErrNotExist) {
			code = cli.ExitUsage
		}
		return nil, cli.Fail(code, "- and stdin for a value that begins with @", "value @%s: %v", name, errors.Unwrap(err))
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() <= inMemoryValue {
		defer f.Close()
		s, err := readValue(f) // pipes and devices too
		if err != nil {
			return nil, fmt.Errorf("value @%s: %w", name, err)
		}
		return s, nil
	}
	if info.Size() > dyngo.MaxValueBytes {
		f.Close()
		return nil, tooLarge("@" + name)
	}
	return &source{file: f, size: info.Size()}, nil
}

// readValue reads all of r: into memory, or into a temporary file when that is too much for it.
func readValue(r io.Reader) (*source, error) {
	data, err := io.ReadAll(io.LimitReader(r, inMemoryValue+1))
	if err != nil {
		return nil, fmt.Errorf("read the value: %w", err)
	}
	if len(data) <= inMemoryValue {
		return &source{data: data, size: int64(len(data))}, nil
	}
	f, err := os.CreateTemp("", "dyngo-value-*")
	if err != nil {
		return nil, err
	}
	s := &source{file: f, temp: true}
	all := io.MultiReader(bytes.NewReader(data), r)
	if s.size, err = io.Copy(f, io.LimitReader(all, dyngo.MaxValueBytes+1)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil && s.size > dyngo.MaxValueBytes {
		err = tooLarge("from stdin")
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func tooLarge(what string) error {
	return cli.Usage("split it under several keys", "value %s: a value has at most 1 GiB", what)
}
