package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
alone; undoing that batch brings the changes back. A batch has at most 4 GiB:
take more back in parts, by --dataset and --prefix. A dropped dataset must fit.

A dataset that was dropped, and that nobody has created since, is created again
with the options that it had, before the batch; it goes again if that fails. If
undo is killed in between, drop it, and then undo again.`,
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
	shown     int                             // events that take something back, or would but for a conflict
	gone      map[string]dyngo.DatasetOptions // datasets that the batches dropped, and that are to be created again
	created   []string                        // those that were, until the batch is committed
}

func (u *undo) run() (err error) {
	end, err := u.open()
	if err != nil {
		return err
	}
	defer end(&err)
	return u.takeBack()
}

// takeBack is run with the store open.
func (u *undo) takeBack() (err error) {
	u.batch = u.db.NewBatch()
	defer func() {
		for _, name := range u.created { // else the next undo would take them for somebody's
			if err != nil && !errors.Is(err, dyngo.ErrOutcomeUnknown) {
				_, derr := u.db.DropDataset(name)
				err = errors.Join(err, derr)
			}
		}
	}()
	r := cli.NewRenderer(u.cmd, cli.ManyRows, cli.Column{Name: "dataset"}, cli.Column{Name: "key"}, cli.Column{Name: "op"},
		cli.Column{Name: "value"}, cli.Column{Name: "expires"}, cli.Column{Name: "conflict"})
	if err := u.dropped(); err != nil {
		return cli.Flushed(r, err)
	}
	if err := u.create(r); err != nil {
		return cli.Flushed(r, err)
	}
	if err := u.each(func(c *dyngo.Change) error { return u.key(r, c) }); err != nil {
		return cli.Flushed(r, err)
	}
	if err := r.Close(); err != nil {
		return err
	}
	if u.apply && (u.conflicts == 0 || u.skip) {
		lsn, err := u.batch.CommitWith(dyngo.WriteOptions{Ack: dyngo.AckDurable}) // also if it is empty: what it refused is told here
		if err != nil {
			return err
		}
		u.created = nil
		if n := u.batch.Len(); n > 0 {
			fmt.Fprintf(u.cmd.ErrOrStderr(), "%s: appended as LSN %d to %d\n", u.cmd.Root().Name(), lsn-event.LSN(n)+1, lsn)
		}
	}
	if u.shown == 0 {
		fmt.Fprintf(u.cmd.ErrOrStderr(), "%s: there is nothing to take back: each key is as it was before\n", u.cmd.Root().Name())
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

// each visits what the batches changed, from what it is after them to what it was before.
func (u *undo) each(visit func(c *dyngo.Change) error) error {
	for c, err := range u.db.Diff(u.cmd.Context(), dyngo.AfterTx(u.through), dyngo.BeforeTx(u.first), &u.keys) {
		if err == nil {
			err = visit(&c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropped finds the datasets that the batches dropped and that are still gone.
func (u *undo) dropped() error {
	after, err := u.db.ViewAt(u.cmd.Context(), dyngo.AfterTx(u.through))
	if err != nil {
		return err
	}
	defer after.Close()
	u.end = after.LSN()
	before, err := u.db.ViewAt(u.cmd.Context(), dyngo.BeforeTx(u.first))
	if err != nil {
		return err
	}
	defer before.Close()
	names, err := before.Datasets()
	if err != nil {
		return err
	}
	u.gone = map[string]dyngo.DatasetOptions{}
	for _, name := range names {
		if u.keys.Dataset != "" && u.keys.Dataset != name {
			continue
		}
		_, err := after.Dataset(name)
		if err != nil && !errors.Is(err, dyngo.ErrNoDataset) {
			return err
		}
		_, nerr := u.db.Dataset(name)
		if nerr != nil && !errors.Is(nerr, dyngo.ErrNoDataset) {
			return nerr
		}
		if err == nil || nerr == nil { // it was not dropped by them, or is there again
			continue
		}
		ds, err := before.Dataset(name)
		if err != nil {
			return err
		}
		u.gone[name] = ds.Options()
	}
	return nil
}

// create prints, and with --apply creates anew, the datasets that are to come back: not if that would be all, since other keys are
// in the way.
func (u *undo) create(r *cli.Renderer) error {
	if len(u.gone) == 0 {
		return nil
	}
	conflicts := 0
	if u.apply && !u.skip {
		err := u.each(func(c *dyngo.Change) error {
			_, conflict, err := u.check(c)
			if conflict != "" {
				conflicts++
			}
			if err == errDone {
				err = nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.gone)) {
		u.shown++
		if err := r.Row(name, nil, event.OpDatasetCreated.String(), nil, nil, nil); err != nil {
			return err
		}
		if o := u.gone[name]; u.apply && conflicts == 0 {
			if _, err := u.db.CreateDataset(name, &o); err != nil {
				return err
			}
			u.created = append(u.created, name)
		}
	}
	return nil
}

// open opens the store: to write only what a writer may open.
func (u *undo) open() (end func(*error), err error) {
	if !u.apply {
		u.db, end, err = cli.OpenAny(u.cmd, dyngo.BeforeTx(u.first), dyngo.AfterTx(u.through))
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
	case ds == nil: // of a dataset that is not there yet
	case op == event.OpPut:
		wo := u.why
		wo.TTL, wo.Subject = ttl, c.After.Subject
		u.batch.PutWith(ds, c.Key, c.After.Value, wo)
	default:
		u.batch.DeleteWith(ds, c.Key, u.why)
	}
	u.shown++
	return r.Row(c.Dataset, cli.KeyCell(c.Key), op.String(), value, expires, why)
}

// errDone says that a key is as it is to be.
var errDone = errors.New("done")

// destroyed says that a key that seems to have had no value before the batches had one that was erased or redacted since: empty = it
// had none.
func (u *undo) destroyed(ds *dyngo.Dataset, key []byte) (string, error) {
	for v, err := range ds.History(context.WithoutCancel(u.cmd.Context()), key) {
		switch {
		case err != nil:
			return "", err
		case v.NotApplied || v.LSN >= u.first:
			continue
		case v.Op == event.OpPut && v.Redacted:
			return fmt.Sprintf("value of LSN %d was redacted", v.LSN), nil
		case v.Op == event.OpPut && v.Erased:
			return fmt.Sprintf("value of LSN %d was erased", v.LSN), nil
		case v.Op != event.OpRedact:
			return "", nil
		}
	}
	return "", nil
}

// check says what else has happened to a key since the batches, empty = nothing.
func (u *undo) check(c *dyngo.Change) (ds *dyngo.Dataset, conflict string, err error) {
	ds, err = u.db.Dataset(c.Dataset)
	_, comes := u.gone[c.Dataset]
	switch {
	case errors.Is(err, dyngo.ErrNoDataset) && comes:
		return nil, "", nil
	case errors.Is(err, dyngo.ErrNoDataset):
		return nil, "the dataset is gone", nil
	case comes: // it was created just now
		return ds, "", err
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
		if c.After == nil {
			conflict, err = u.destroyed(ds, c.Key)
		}
		return ds, conflict, err
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
