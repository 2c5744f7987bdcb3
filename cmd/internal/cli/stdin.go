package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

// Stdin is what the command reads: it ends with an error as soon as ^C comes, although a read of a terminal or pipe can't be
// interrupted. What came before that is no whole value, answer or file then.
func Stdin(cmd *cobra.Command) io.Reader {
	return &stdin{ctx: cmd.Context(), in: cmd.InOrStdin(), buf: make([]byte, 64<<10), done: make(chan readResult, 1)}
}

// stdin reads in a goroutine, which ends with its read: after ^C perhaps only with the program. It has buf until done has its result;
// after ^C nobody else looks at buf again.
type stdin struct {
	ctx  context.Context
	in   io.Reader
	buf  []byte
	done chan readResult
}

type readResult struct {
	n   int
	err error
}

func (s *stdin) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	buf := s.buf[:min(len(p), len(s.buf))]
	go func() {
		n, err := s.in.Read(buf)
		s.done <- readResult{n, err}
	}()
	select {
	case r := <-s.done:
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		return copy(p, buf[:r.n]), r.err
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}
