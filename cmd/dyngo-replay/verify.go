package main

import (
	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that the past was not changed",
		Long: `Check every byte of a store, a backup, an archive or a log file, as dyngo-cli
verify does. Damage is listed with file and offset, and the exit code is 6.

` + cli.LevelHelp + `

The default is tree for a store that keeps a tree, else decode. Log files alone
have no state to replay against, so they are checked to decode, or to tree if
they begin with the first one of the log and --anchor names tree heads. Packed
ones are held against their SHA-256 too. With --archive the log is checked
across archive and store.

Checksums find accidents. That nobody has changed the past on purpose can be
told from a tree head that was kept elsewhere: --anchor names files with heads,
and with a private --signing-key the head of now is added to them if all is
well.`,
		Example: `  dyngo-replay verify --anchor /elsewhere/heads --signing-key dyngo.key.pub
  dyngo-replay verify -d /archive/store
  dyngo-replay verify -d /backup/store --level state`,
		Args: cli.NoArgs,
	}
	v := cli.AddVerification(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return v.Run(cmd) }
	return cmd
}

func newProveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prove LSN|heads",
		Short: "Print a proof that others can check",
		Long: `Print a bundle of JSON that the program in docs/verifier checks, without DynGO
and without the store: that the event with an LSN is in the log that a tree head
stands for, or with "heads", that the log of the last head in --anchor begins
this one. With a private --signing-key the head in it is signed.

The tree that the store keeps is used. Without one it is computed, if the log is
there from its first file on: in the store, in a backup, or in an archive.`,
		Example: `  dyngo-replay prove 42 --signing-key /keys/dyngo.key > proof.json
  dyngo-replay prove heads --anchor /elsewhere/heads > grown.json
  dyngo-replay prove 42 --archive /archive/store > proof.json`,
		Args: cli.ExactArgs("LSN|heads"),
	}
	p := cli.AddProof(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return p.Prove(cmd, args[0]) }
	return cmd
}
