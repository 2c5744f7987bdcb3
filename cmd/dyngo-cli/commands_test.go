package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/cmd/internal/clitest"
)

func TestTree(t *testing.T) { clitest.Tree(t, newRootCommand()) }

func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := cli.Run(context.Background(), newRootCommand(), []string{"-d", dir, "put", "d", "k", "v"}, nil, &out, &errs); code != cli.ExitOK {
		t.Fatalf("put: %d, %s", code, errs.String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range [][]string{
		{"verify"}, {"log", "tail", "--follow"}, {"watch"}, {"datasets"}, {"datasets", "drop", "d", "--yes"},
		{"del", "d", "--prefix", "", "--yes"}, {"del", "d", "--prefix", "", "--dry-run"}, {"bench", "--keys", "1000", "--time", "1h"},
	} {
		out.Reset()
		errs.Reset()
		if code := cli.Run(ctx, newRootCommand(), append(args, "-d", dir), nil, &out, &errs); code != cli.ExitInterrupted ||
			!strings.HasSuffix(errs.String(), "dyngo-cli: interrupted\n") {
			t.Errorf("%v: exit code %d, stderr %q", args, code, errs.String())
		}
	}
	if names, err := filepath.Glob(filepath.Join(dir, "dyngo-bench-*")); err != nil || len(names) > 0 {
		t.Errorf("an interrupted bench leaves %v, %v", names, err)
	}
}

// ^C while a value, rows or an answer are read ends the command at once, and what was read until then is no value.
func TestInterruptWhileReading(t *testing.T) {
	dir := t.TempDir()
	run := func(ctx context.Context, stdin io.Reader, args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := cli.Run(ctx, newRootCommand(), append(args, "-d", dir), stdin, &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, said := run(context.Background(), nil, "put", "d", "k", "whole"); code != cli.ExitOK {
		t.Fatalf("put: %d, %s", code, said)
	}
	for _, args := range [][]string{{"put", "d", "k", "-"}, {"load", "d", "-", "--key", "id", "--format", "jsonl"}} {
		ctx, cancel := context.WithCancel(context.Background())
		in, sender := io.Pipe()
		sent := make(chan error, 1)
		go func() {
			_, err := sender.Write([]byte("part"))
			cancel() // while the command waits for more
			sent <- err
		}()
		code, said := run(ctx, in, args...)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		sender.Close()
		if code != cli.ExitInterrupted || !strings.HasSuffix(said, "dyngo-cli: interrupted\n") {
			t.Errorf("%v: exit code %d, %q", args, code, said)
		}
	}
	if code, said := run(context.Background(), nil, "get", "d", "k"); code != cli.ExitOK || said != "whole" {
		t.Errorf("after interrupted puts: %d, %q", code, said)
	}
	// The last of a value comes together with ^C, as from a pipeline whose other end was interrupted too.
	ctx, cancel := context.WithCancel(context.Background())
	if code, said := run(ctx, endsWith{strings.NewReader("part"), cancel}, "put", "d", "k", "-"); code != cli.ExitInterrupted {
		t.Errorf("a value that ends with ^C: %d, %q", code, said)
	}
}

// endsWith calls f at the end of a reader.
type endsWith struct {
	io.Reader
	f func()
}

func (e endsWith) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil {
		e.f()
	}
	return n, err
}

func TestSnakeCase(t *testing.T) {
	for in, want := range map[string]string{
		"DurableLSN": "durable_lsn", "LSN": "lsn", "TTLPending": "ttl_pending", "OpenViews": "open_views",
		"already_snake": "already_snake", "P99": "p99", "IOWaitNs": "io_wait_ns", "": "",
	} {
		if got := snakeCase(in); got != want {
			t.Errorf("snakeCase(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestLatencies(t *testing.T) {
	var all, half latencies
	for i := 1; i <= 1000; i++ {
		l := &all
		if i%2 == 0 {
			l = &half
		}
		l.add(time.Duration(i) * time.Microsecond)
	}
	all.merge(&half)
	for q, want := range map[float64]time.Duration{
		0: time.Microsecond, 0.5: 501 * time.Microsecond, 0.99: 991 * time.Microsecond, 1: time.Millisecond,
	} {
		if got := all.quantile(q); got < want*96/100 || got > want*104/100 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	var one latencies
	for _, d := range []time.Duration{-1, 0, 1, 63, 64, 127, 1 << 40, 1<<63 - 1} {
		one.add(d) // must not leave the array
		if got := bucketValue(latencyBucket(d)); d > 0 && (got < d-d/31-1 || got-d > d/31+1) {
			t.Errorf("%d is counted as %d", d, got)
		}
	}
	if (&latencies{}).quantile(0.5) != 0 {
		t.Error("quantile of nothing")
	}
}

func TestBenchKey(t *testing.T) {
	for n, want := range map[int]string{0: "key-000000000000", 7: "key-000000000007", 99_999_999: "key-000099999999"} {
		if got := string(appendBenchKey(nil, n)); got != want {
			t.Errorf("key %d is %s", n, got)
		}
	}
}
