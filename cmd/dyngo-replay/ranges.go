package main

import (
	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// addKeys gives cmd the flags that select keys. names are those of the flags for prefix, first key and key to stop before;
// the last two may be left out.
func addKeys(cmd *cobra.Command, bounds bool) func() (dyngo.Range, error) {
	f := cmd.Flags()
	prefix := f.String("prefix", "", "only keys that begin with this")
	from, to := new(string), new(string)
	if bounds {
		from = f.String("from", "", "first key")
		to = f.String("to", "", "key to stop before")
	}
	escaped := cli.AddEscaped(cmd)
	return func() (dyngo.Range, error) {
		var b [3][]byte
		for i, arg := range []struct{ flag, value string }{{"--prefix", *prefix}, {"--from", *from}, {"--to", *to}} {
			var err error
			if b[i], err = cli.ParseBytes(arg.flag, arg.value, *escaped); err != nil {
				return dyngo.Range{}, err
			}
		}
		return cli.KeyRange(b[0], b[1], b[2]), nil
	}
}
