package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// errNotLive means that no process serves live.sock of the store.
var errNotLive = errors.New("no process serves live.sock")

const (
	liveTimeout  = 5 * time.Second // between two lines: while work goes on, the owner tells of it
	maxLiveReply = 64 << 20
)

// askOwner sends one request to the process that has the store open and returns its result. progress,
// if not nil, is called with the figures that it sends meanwhile. name, if given, is what the request is about. See live.go of
// package dyngo.
func askOwner(ctx context.Context, dir, request string, progress func(dyngo.Metrics), name ...string) (json.RawMessage, error) {
	d := net.Dialer{Timeout: liveTimeout}
	conn, err := d.DialContext(ctx, "unix", filepath.Join(dir, "live.sock"))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, errNotLive // no socket, or that of a process that is gone
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := json.Marshal(map[string]string{"cmd": request, "name": strings.Join(name, "")})
	if err != nil {
		return nil, err
	}
	result, err := converse(conn, line, progress)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, cli.Fail(cli.ExitUnavailable, "the command again, or stop that process",
			"the process that has %s open: %w", dir, err)
	}
	return result, nil
}

// converse sends the request and reads lines until the answer.
func converse(conn net.Conn, request []byte, progress func(dyngo.Metrics)) (json.RawMessage, error) {
	if err := conn.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "%s\n", request); err != nil {
		return nil, err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxLiveReply))
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		var reply struct {
			OK       bool
			Result   json.RawMessage
			Error    string
			Progress *dyngo.Metrics
		}
		if err := json.Unmarshal(line, &reply); err != nil {
			return nil, fmt.Errorf("its answer is not understood: %w", err)
		}
		if reply.Progress == nil {
			if !reply.OK {
				return nil, errors.New(reply.Error)
			}
			return reply.Result, nil
		}
		if progress != nil {
			progress(*reply.Progress)
		}
		if err := conn.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
			return nil, err
		}
	}
}

// ownerAnswer asks the owner for a T.
func ownerAnswer[T any](ctx context.Context, dir, request string, progress func(dyngo.Metrics), name ...string) (T, error) {
	var t T
	result, err := askOwner(ctx, dir, request, progress, name...)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(result, &t); err != nil {
		return t, cli.Fail(cli.ExitUnavailable, "a dyngo-cli of the owner's version",
			"the answer of the process that has %s open is not understood: %w", dir, err)
	}
	return t, nil
}

// explainLocked says what to do when another process has the store open and does not serve live.sock.
func explainLocked(err error) error {
	var locked *dyngo.LockedError
	if errors.As(err, &locked) {
		try := fmt.Sprintf("stop %s, or have it open the store with the option Live", cli.PidName(locked.PID))
		return cli.Fail(cli.ExitUnavailable, try, "%w", err)
	}
	return err
}
