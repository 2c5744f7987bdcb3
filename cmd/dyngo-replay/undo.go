package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
)

func newUndoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "undo LSN",
		Short: "Print the events that take a batch back, or append them",
		Long: `Print the events that take back what a batch did: a put of the value that a key
had before, or a delete if it had none. The batch is named by the LSN of its
first event; with --through all batches from it to another one are taken back.

A key that has that value already is passed over. One that was changed again
since is a conflict, which is named and left alone.
The exit code is then 7, and --apply changes nothing unless --skip-conflicts
is given. --apply appends the events as one batch, for which it needs the store
alone; undoing that batch brings the changes back.`,
		Example: `  dyngo-replay undo 1234
  dyngo-replay undo 1234 --through 1300 --dataset scores -o table
  dyngo-replay undo 1234 --apply --reason 'wrong price list'`,
		Args: cli.ExactArgs("LSN"),
	}
	f := cmd.Flags()
	u := undo{cmd: cmd}
	through := f.Uint64("through", 0, "first `LSN` of the last batch to take back")
	dataset := f.String("dataset", "", "only keys of this dataset")
	f.BoolVar(&u.apply, "apply", false, "append the events")
	f.BoolVar(&u.skip, "skip-conflicts", false, "apply although keys are left alone")
	keys := addKeys(cmd, false)
	why := cli.AddWhy(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		first, err := strconv.ParseUint(args[0], 10, 63)
		if err != nil || first == 0 {
			return cli.Usage("the LSN of the batch's first event", "%q is no LSN", args[0])
		}
		u.first, u.through = event.LSN(first), event.LSN(max(*through, first))
		if *through != 0 && *through < first {
			return cli.Usage("the earlier batch first", "--through is %d, which is before %d", *through, first)
		}
		if u.skip && !u.apply {
			return cli.Usage("--apply --skip-conflicts", "--skip-conflicts has no meaning without --apply")
		}
		if u.why = why(); u.apply && u.why.Reason == "" {
			return cli.Usage("--reason TEXT", "--apply needs --reason, which is kept in the log")
		}
		r, err := keys()
		if err != nil {
			return err
		}
		u.keys = dyngo.DiffOptions{Dataset: *dataset, From: r.From, To: r.To}
		return u.run()
	}
	return cmd
}

// undo takes back what some batches did.
type undo struct {
	cmd            *cobra.Command
	first, through event.LSN // the batches, by their first LSN
	keys           dyngo.DiffOptions
	apply, skip    bool
	why            dyngo.WriteOptions

	db        *dyngo.DB
	end       event.LSN // of the last batch
	batch     *dyngo.Batch
	conflicts int
}

func (u *undo) run() (err error) {
	end, err := u.open()
	if err != nil {
		return err
	}
	defer end(&err)
	u.batch = u.db.NewBatch()
	r := cli.NewRenderer(u.cmd, cli.ManyRows, cli.Column{Name: "dataset"}, cli.Column{Name: "key"}, cli.Column{Name: "op"},
		cli.Column{Name: "value"}, cli.Column{Name: "expires"}, cli.Column{Name: "conflict"})
	after, err := u.db.ViewAt(u.cmd.Context(), dyngo.AfterTx(u.through))
	if err != nil {
		return cli.Flushed(r, err)
	}
	u.end = after.LSN()
	if err := after.Close(); err != nil {
		return cli.Flushed(r, err)
	}
	for c, err := range u.db.Diff(u.cmd.Context(), dyngo.AfterTx(u.through), dyngo.BeforeTx(u.first), &u.keys) {
		if err == nil {
			err = u.key(r, &c)
		}
		if err != nil {
			return cli.Flushed(r, err)
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	if u.apply && (u.conflicts == 0 || u.skip) && u.batch.Len() > 0 {
		lsn, err := u.batch.CommitWith(dyngo.WriteOptions{Ack: dyngo.AckDurable})
		if err != nil {
			return err
		}
		fmt.Fprintf(u.cmd.ErrOrStderr(), "%s: appended as LSN %d to %d\n", u.cmd.Root().Name(),
			lsn-event.LSN(u.batch.Len())+1, lsn)
	}
	if u.conflicts > 0 {
		try := "look at them, then --apply --skip-conflicts to leave these keys as they are"
		if u.skip {
			try = ""
		}
		what := "1 key was"
		if u.conflicts > 1 {
			what = cli.FormatCount(int64(u.conflicts)) + " keys were"
		}
		return cli.Fail(cli.ExitConflict, try, "%s changed again since, and left alone", what)
	}
	return nil
}

// open opens the store: to write only what a writer may open.
func (u *undo) open() (end func(*error), err error) {
	if !u.apply {
		u.db, end, err = cli.OpenAny(u.cmd)
		return end, err
	}
	src, err := cli.OpenSource(u.cmd)
	if err != nil {
		return nil, err
	}
	if src.Kind != cli.SourceStore || src.Archive != "" {
		return nil, cli.Usage("--dir with the store, without --archive", "undo --apply writes to a store, and to nothing else")
	}
	u.db, err = cli.OpenWrite(u.cmd)
	return func(err *error) { cli.CloseStore(u.db, err) }, err
}

// key prints, and adds to the batch, what takes one change back: to what c.After says from what c.Before does.
func (u *undo) key(r *cli.Renderer, c *dyngo.Change) error {
	ds, conflict, err := u.check(c)
	if err == errDone {
		return nil
	}
	if err != nil {
		return err
	}
	op, value, expires, why := event.OpDelete, any(nil), time.Time{}, any(nil)
	var ttl time.Duration
	if c.After != nil {
		if expires = c.After.Expires; !expires.IsZero() {
			ttl = time.Until(expires)
		}
		if ttl >= 0 { // else its time is over by now
			op, value = event.OpPut, cli.ValueCell(c.After.Value)
		}
	}
	switch {
	case conflict != "":
		why = conflict
		u.conflicts++
	case op == event.OpPut:
		wo := u.why
		wo.TTL, wo.Subject = ttl, c.After.Subject
		u.batch.PutWith(ds, c.Key, c.After.Value, wo)
	default:
		u.batch.DeleteWith(ds, c.Key, u.why)
	}
	return r.Row(c.Dataset, cli.KeyCell(c.Key), op.String(), value, expires, why)
}

// errDone says that a key is as it is to be.
var errDone = errors.New("done")

// check says what else has happened to a key since the batches, empty = nothing.
func (u *undo) check(c *dyngo.Change) (ds *dyngo.Dataset, conflict string, err error) {
	ds, err = u.db.Dataset(c.Dataset)
	if errors.Is(err, dyngo.ErrNoDataset) {
		return nil, "the dataset is gone", nil
	}
	if err != nil {
		return nil, "", err
	}
	now, err := ds.Lookup(c.Key)
	gone := errors.Is(err, dyngo.ErrNotFound)
	switch {
	case err != nil && !gone:
		return nil, "", err
	case gone && c.After == nil || !gone && c.After != nil && bytes.Equal(now.Value, c.After.Value):
		return nil, "", errDone
	case !gone && c.Before != nil && now.LSN == c.Before.LSN:
		return ds, "", nil
	}
	for v, err := range ds.History(context.WithoutCancel(u.cmd.Context()), c.Key) {
		if err != nil {
			return nil, "", err
		}
		if v.NotApplied {
			continue
		}
		if gone && c.Before == nil && v.LSN <= u.end { // it is gone for what is taken back, not since
			return ds, "", nil
		}
		conflict = fmt.Sprintf("%s at LSN %d", v.Op, v.LSN)
		if v.Actor != "" {
			conflict += " by " + v.Actor
		}
		return ds, conflict, nil
	}
	return ds, "changed since", nil
}
