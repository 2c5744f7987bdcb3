package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
)

func newVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every byte of the store, and that its past was not changed",
		Long: `Check every byte of the store. Of the log: file headers and how they follow each
other, CRC and chain of each frame, the encoding of each event, the pieces of
large values, and the end; what a crash left behind the end is told and is no
damage. Of what is derived from it: the manifest, that the segments it names are
there and the ones it means, their blocks, order, indexes, filters and hash, and
that they hold nothing newer than the log.

Damage is listed with file and offset, and the exit code is 6. The command takes
no lock and works beside a process that writes.

` + cli.LevelHelp + `

The default is tree for a store that keeps a tree, else decode. Checksums find
accidents. That nobody has changed the past on purpose can be told from a tree
head that was kept elsewhere: --anchor names files with heads, and with a
private --signing-key the head of now is added to them if all is well. Without
an anchor a log that was cut at its end, or forged as a whole, looks sound.

--init-key makes a key, and the store keeps a tree from then on. --prove prints
a bundle that the program in docs/verifier checks: that one event is in the log,
or with "heads", that the log of the last head in --anchor begins this one.`,
		Example: `  dyngo-cli verify
  dyngo-cli verify -d /backup/store -o json
  dyngo-cli verify --init-key /keys/dyngo.key
  dyngo-cli verify --signing-key /keys/dyngo.key --anchor /elsewhere/heads
  dyngo-cli verify --signing-key /keys/dyngo.key.pub --anchor /elsewhere/heads
  dyngo-cli verify --prove 42 --signing-key /keys/dyngo.key > proof.json`,
		Args: cli.NoArgs,
	}
	o := cli.AddVerification(cmd)
	initKey := cmd.Flags().String("init-key", "", "make a key: `FILE` and FILE.pub; keep a tree")
	prove := cmd.Flags().String("prove", "", `print a proof: of an LSN, or of "heads"`)
	cmd.MarkFlagsMutuallyExclusive("init-key", "level")
	cmd.MarkFlagsMutuallyExclusive("init-key", "anchor")
	cmd.MarkFlagsMutuallyExclusive("init-key", "signing-key")
	cmd.MarkFlagsMutuallyExclusive("init-key", "prove")
	cmd.MarkFlagsMutuallyExclusive("level", "prove")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case *initKey != "":
			return runInitKey(cmd, *initKey)
		case *prove != "":
			return o.Prove(cmd, *prove)
		}
		return o.Run(cmd)
	}
	return cmd
}

// runInitKey makes a key and has the store keep a tree.
func runInitKey(cmd *cobra.Command, name string) (err error) {
	dir := cli.GlobalsOf(cmd).Dir
	inside, err := vfs.Inside(name, dir)
	if err != nil {
		return err
	}
	if inside {
		return cli.Usage("a place that is not copied with the store", "--init-key %s: the key must lie outside of the store %s", name, dir)
	}
	if err := checkNew(name); err != nil { // before the store is changed
		return err
	}
	exists := cli.StoreExists(dir)
	if exists {
		db, err2 := cli.OpenWrite(cmd, func(o *dyngo.Options) { o.Integrity = true })
		if err2 != nil {
			return err2
		}
		defer cli.CloseStore(db, &err)
		if db.LSN() > 0 { // else there is nothing yet that a tree could hold
			if _, err := db.TreeHead(cmd.Context()); err != nil {
				return err
			}
		}
	}
	private, public, err := integrity.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	if err := writeNew(name, private+"\n", 0o600); err != nil {
		return err
	}
	if err := writeNew(name+".pub", public+"\n", 0o644); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s signs tree heads: keep it secret. %s.pub checks them: give it to those who verify.\n", name, name)
	if exists {
		fmt.Fprintf(cmd.ErrOrStderr(), "the store %s keeps a tree over its log from now on\n", dir)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "there is no store in %s yet; run this again with another FILE, or set Options.Integrity, to have "+
			"it keep a tree\n", dir)
	}
	return nil
}

// checkNew returns an error if a key can't be made in a file: it is there, or its folder is not.
func checkNew(name string) error {
	for _, n := range []string{name, name + ".pub"} {
		if _, err := os.Lstat(n); err == nil {
			return cli.Fail(cli.ExitFailure, "another FILE, or --signing-key with this one if it is a key", "--init-key: %s: file exists", n)
		}
	}
	folder := filepath.Dir(name)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return cli.Fail(cli.ExitNotFound, "mkdir "+cli.ShellQuote(folder)+", or another FILE", "--init-key: there is no folder %s", folder)
	}
	return nil
}

// writeNew writes a file that must not exist.
func writeNew(name, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
