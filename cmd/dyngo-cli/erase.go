package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/integrity"
)

func newEraseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase --subject SUBJECT --reason REASON",
		Short: "Make all values of a subject unreadable",
		Long: `Make all values of a subject unreadable, in this store, its history, snapshots
and backups: the key that they were encrypted under (put and load --subject) is
destroyed in the folder --keys. An event says so; hash trees and proofs stay as
they are. What is written of the subject later gets another key.

Not erased are the keys of records, what was read or exported before, and what
can be read with copies of the folder of keys: delete those too. Erasing twice
is no error; the row says when it was done.

--certificate writes a statement of what was made unreadable, when, by whom and
why, to a new file; with --signing-key it is signed, and with a hash tree in the
store it holds the proof that the event is in the log. The program in
docs/verifier checks it. For a subject that was erased before it is made anew.`,
		Example: `  dyngo-cli erase --subject anna --keys /keys --dry-run
  dyngo-cli erase --subject anna --keys /keys --reason 'asked for it, T-881' \
      --certificate anna.json --signing-key /signing/dyngo.key --yes`,
		Args: cli.NoArgs,
	}
	e := &eraseRequest{}
	f := cmd.Flags()
	f.StringVar(&e.subject, "subject", "", "whose values to erase (required)")
	f.StringVar(&e.certificate, "certificate", "", "write a certificate to this new `file`")
	f.StringVar(&e.key, "signing-key", "", "`file` with the private key that signs the certificate")
	f.BoolVar(&e.dryRun, "dry-run", false, "only say what would be erased")
	f.BoolVar(&e.yes, "yes", false, "don't ask")
	why := cli.AddWhy(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o := why()
		e.options = dyngo.EraseOptions{Reason: o.Reason, Ticket: o.Ticket, Correlation: o.Correlation, Count: true, DryRun: e.dryRun}
		return e.run(cmd)
	}
	return cmd
}

// eraseRequest is one erase as the command line gave it.
type eraseRequest struct {
	subject, certificate, key string
	dryRun, yes               bool
	options                   dyngo.EraseOptions
	signing                   string // text of the key
}

func (e *eraseRequest) check(cmd *cobra.Command) error {
	switch {
	case e.subject == "":
		return cli.Usage("--subject, as put or load had it", "erase: --subject is missing")
	case cli.GlobalsOf(cmd).Keys == "":
		return cli.Usage("--keys or DYNGO_KEYS with the folder of the keys", "erase: --keys is missing")
	case e.options.Reason == "" && !e.dryRun:
		return cli.Usage("--reason TEXT", "erase: --reason is missing, which is kept in the log")
	case e.dryRun && e.certificate != "":
		return cli.Usage("one of them", "--dry-run and --certificate exclude each other")
	case e.key != "" && e.certificate == "":
		return cli.Usage("--certificate FILE", "--signing-key has no meaning without --certificate")
	}
	if e.certificate != "" { // rather now than when the key is gone
		if _, err := os.Stat(e.certificate); err == nil {
			return cli.Fail(cli.ExitConflict, "another file", "--certificate %s: the file exists", e.certificate)
		}
		if info, err := os.Stat(filepath.Dir(e.certificate)); err != nil || !info.IsDir() {
			return cli.Usage("a file in a directory that exists", "--certificate %s: there is no such directory", e.certificate)
		}
	}
	key, text, err := cli.ReadSigningKey(e.key)
	if err != nil {
		return err
	}
	if key != nil && !key.Private() {
		return cli.Usage("the file without .pub", "--signing-key %s: a public key can't sign", e.key)
	}
	e.signing = text
	return cli.CheckStore(cli.GlobalsOf(cmd).Dir)
}

func (e *eraseRequest) run(cmd *cobra.Command) (err error) {
	if err := e.check(cmd); err != nil {
		return err
	}
	plan, err := e.plan(cmd)
	if err != nil {
		return err
	}
	if e.dryRun {
		return showErasure(cmd, plan, "nothing was changed")
	}
	if !plan.Already {
		values := countNoun(plan.Events, "value")
		if err := cli.Confirm(cmd, e.yes, fmt.Sprintf("Destroy the key of %q for good: %s", e.subject, values)); err != nil {
			return err
		}
	}
	db, err := cli.OpenWrite(cmd, func(o *dyngo.Options) { o.SigningKey = e.signing })
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	done, err := db.Erase(cmd.Context(), e.subject, e.options)
	if err != nil {
		return err
	}
	if e.certificate != "" {
		c, err := db.Certificate(cmd.Context(), done)
		if err == nil {
			err = writeCertificate(e.certificate, c)
		}
		if err != nil {
			return fmt.Errorf("the subject was erased at LSN %d, but there is no certificate, which the same command makes: %w", done.LSN, err)
		}
	}
	return showErasure(cmd, done, "copies of the folder of keys can still read them: delete those too")
}

// plan says what would be erased, from a read-only open.
func (e *eraseRequest) plan(cmd *cobra.Command) (r *dyngo.Erasure, err error) {
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return nil, err
	}
	defer cli.CloseStore(db, &err)
	o := e.options
	o.DryRun = true
	return db.Erase(cmd.Context(), e.subject, o)
}

func writeCertificate(name string, c *integrity.Certificate) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return errors.Join(enc.Encode(c), writeNew(name, b.String(), 0o644))
}

// showErasure prints what was erased, or would be.
func showErasure(cmd *cobra.Command, e *dyngo.Erasure, note string) error {
	status, lsn, at := "erased", any(e.LSN), any(e.Time)
	switch {
	case e.Already:
		status = "erased before"
	case e.LSN == 0:
		status, lsn, at = "would be erased", nil, nil
	}
	r := cli.NewRenderer(cmd, cli.OneSheet, cli.Column{Name: "subject"}, cli.Column{Name: "status"}, cli.Column{Name: "key"},
		cli.Column{Name: "fingerprint"}, cli.Column{Name: "created"}, cli.Column{Name: "lsn"}, cli.Column{Name: "time"},
		cli.Column{Name: "events"}, cli.Column{Name: "from_lsn"})
	if err := r.Row(e.Subject, status, fmt.Sprintf("%016x", e.KeyID), fmt.Sprintf("%x", e.Fingerprint), e.KeyCreated, lsn, at,
		cli.CountCell(e.Events), e.From); err != nil {
		return err
	}
	if err := r.Close(); err != nil {
		return err
	}
	if e.Already {
		note = "erased at " + e.Time.UTC().Format(time.RFC3339) + fmt.Sprintf(", LSN %d", e.LSN)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s of %q in the log from LSN %d on; %s\n", countNoun(e.Events, "value"), e.Subject, e.From, note)
	return nil
}
