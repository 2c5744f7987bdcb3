package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newPutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put DATASET KEY VALUE|-|@FILE",
		Short: "Store a value under a key",
		Long: `Store a value under a key; the dataset and the store are created if need be.

VALUE is the value itself, - for what comes from stdin, or @FILE for the bytes
of a file. The command returns when the value survives power loss.

With --subject the value is encrypted under a key of that subject, which is made
in the folder --keys: dyngo-cli erase destroys it. KEY is not encrypted.`,
		Example: `  dyngo-cli put scores alice 42
  dyngo-cli put sessions s1 '{"user":"alice"}' --ttl 30m
  dyngo-cli put pictures logo @logo.png --reason "new brand"
  dyngo-cli put customers 17 @data.json --subject anna --keys /keys
  date | dyngo-cli put notes today -`,
		Args: cli.ExactArgs("DATASET", "KEY", "VALUE"),
	}
	ttl := cmd.Flags().Duration("ttl", 0, "time to live, such as 90s, 30m or 24h")
	ifLSN := cmd.Flags().String("if-lsn", "", "only if the key is still at this LSN (0: absent), else exit 7")
	subject := cmd.Flags().String("subject", "", "whom the value is about: encrypt it under a key of theirs")
	escaped := cli.AddEscaped(cmd)
	why := cli.AddWhy(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := cli.ParseKey("KEY", args[1], *escaped)
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("ttl") && *ttl <= 0 {
			return cli.Usage("--ttl 30m", "--ttl is %v: it must be positive", *ttl)
		}
		value, err := openValue(cmd, args[2])
		if err != nil {
			return err
		}
		defer value.close()
		p := putRequest{dataset: args[0], key: key, value: value, options: why(), ifLSN: *ifLSN}
		p.options.TTL, p.options.Subject = *ttl, *subject
		return p.run(cmd)
	}
	return cmd
}

// putRequest is one put as the command line gave it.
type putRequest struct {
	dataset string
	key     []byte
	value   *source
	options dyngo.WriteOptions
	ifLSN   string // "" = whatever the key holds
}

func (p *putRequest) run(cmd *cobra.Command) (err error) {
	want, err := p.condition()
	if err != nil {
		return err
	}
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	ds, err := cli.CreateDataset(db, p.dataset, nil)
	if err != nil {
		return err
	}
	if err := cmd.Context().Err(); err != nil { // a pipe may end before the signal that ended its other end arrives here
		return err
	}
	p.options.Ack = dyngo.AckDurable
	var lsn dyngo.LSN
	switch {
	case p.value.file != nil:
		lsn, err = ds.PutReaderWith(p.key, p.value.size, p.value.file, p.options)
	case p.ifLSN != "":
		lsn, err = ds.PutIfWith(p.key, p.value.data, want, p.options)
	default:
		lsn, err = ds.PutWith(p.key, p.value.data, p.options)
	}
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.OneRow, cli.Column{Name: "dataset"}, cli.Column{Name: "key"},
		cli.Column{Name: "bytes"}, cli.Column{Name: "lsn"})
	if err := r.Row(p.dataset, cli.KeyCell(p.key), cli.ByteCell(p.value.size), lsn); err != nil {
		return err
	}
	return r.Close()
}

// condition reads --if-lsn and refuses what can't be had together.
func (p *putRequest) condition() (dyngo.LSN, error) {
	switch {
	case p.value.file != nil && p.ifLSN != "":
		return 0, cli.Usage("leave the flag out, or store a value of at most 64 MiB",
			"a value of %s is streamed, without --if-lsn", cli.FormatBytes(p.value.size))
	case p.ifLSN == "":
		return 0, nil
	}
	n, err := strconv.ParseUint(p.ifLSN, 10, 63)
	if err != nil {
		return 0, cli.Usage("the lsn that dyngo-cli get -o json shows", "--if-lsn %q is not an LSN", p.ifLSN)
	}
	return dyngo.LSN(n), nil
}
