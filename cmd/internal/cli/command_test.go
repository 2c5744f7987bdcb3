package cli

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
)

// testCommand is a command with the persistent flags only, whose stdout is the buffer.
func testCommand(t *testing.T, args ...string) (*cobra.Command, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := &cobra.Command{Use: "test"}
	addGlobals(cmd.PersistentFlags())
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cmd, &out, &errs
}
