package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

// Forms of an event that other programs understand.
const (
	formCloudEvents = "cloudevents"
	formDebezium    = "debezium"
	formHex         = "hex"
)

var forms = []string{formCloudEvents, formDebezium, formHex}

// headers tells which log and timeline an event is of.
type headers struct {
	log  *cli.LogSource
	seq  uint64
	head wal.Header
}

func (h *headers) of(e *cli.LogEvent) (*wal.Header, error) {
	if h.seq != e.Frame.File {
		infos, err := wal.ListFiles(h.log.FS, h.log.Dir)
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			if info.Seq == e.Frame.File {
				if h.head, err = wal.ReadHeader(h.log.FS, h.log.Dir, info); err != nil {
					return nil, err
				}
				h.seq = info.Seq
			}
		}
	}
	return &h.head, nil
}

// object builds a JSON object.
type object struct{ b []byte }

func (o *object) name(name string) {
	if len(o.b) == 0 {
		o.b = append(o.b, '{')
	} else {
		o.b = append(o.b, ',')
	}
	o.b = append(cli.AppendJSONString(o.b, name), ':')
}

func (o *object) str(name, s string) {
	if s != "" {
		o.name(name)
		o.b = cli.AppendJSONString(o.b, s)
	}
}

func (o *object) num(name string, n int64) { o.raw(name, strconv.FormatInt(n, 10)) }

func (o *object) raw(name, s string) {
	o.name(name)
	o.b = append(o.b, s...)
}

func (o *object) key(name string, key []byte) {
	o.name(name)
	o.b = cli.AppendJSONKey(o.b, key)
}

func (o *object) value(name string, value []byte) {
	o.name(name)
	o.b = cli.AppendJSONValue(o.b, value)
}

func (o *object) end() []byte {
	if len(o.b) == 0 {
		o.b = append(o.b, '{')
	}
	return append(o.b, '}')
}

// cloudEvent is an event as CloudEvents 1.0 in JSON. Source and id together are unique: the log, its timeline and the LSN.
func (h *headers) cloudEvent(v *cli.LogView, e *cli.LogEvent) ([]byte, error) {
	head, err := h.of(e)
	if err != nil {
		return nil, err
	}
	value, _, err := v.Value(e)
	if err != nil {
		return nil, err
	}
	var o object
	o.str("specversion", "1.0")
	o.str("id", fmt.Sprintf("%x/%d", head.TimelineID, e.LSN))
	o.str("source", fmt.Sprintf("urn:dyngo:%x", head.LogID))
	o.str("type", "dyngo."+e.Op.String())
	if len(e.Key) > 0 {
		o.str("subject", cli.EscapeBytes(e.Key))
	}
	o.str("time", time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano))
	o.str("sequence", fmt.Sprintf("%020d", e.LSN))
	o.str("dataset", e.DatasetName)
	o.str("actor", e.Who.Actor)
	o.str("address", e.Who.Address)
	o.str("client", e.Who.Client)
	o.str("reason", e.Annotation("reason"))
	o.str("ticket", e.Annotation("ticket"))
	o.str("correlationid", e.Annotation("correlation"))
	o.str("txid", strconv.FormatUint(uint64(e.Tx), 10))
	if t, ok := event.Expiry(e.Parts); ok {
		o.str("expirytime", time.Unix(0, t).UTC().Format(time.RFC3339Nano))
	}
	if e.Flags&event.FlagNotApplied != 0 {
		o.raw("notapplied", "true")
	}
	switch {
	case e.Op == event.OpDeleteRange:
		o.str("datacontenttype", "application/json")
		o.raw("data", string(rangeOf(e)))
	case e.Op.System() || value == nil:
	case utf8.Valid(value) && json.Valid(value):
		o.str("datacontenttype", "application/json")
		o.value("data", value)
	case utf8.Valid(value):
		o.str("datacontenttype", "text/plain")
		o.name("data")
		o.b = cli.AppendJSONString(o.b, string(value))
	default:
		o.str("datacontenttype", "application/octet-stream")
		o.name("data_base64")
		o.b = cli.AppendJSONString(o.b, base64.StdEncoding.EncodeToString(value))
	}
	return append(o.end(), '\n'), nil
}

// rangeOf is what a range delete covers: from and to, absent = open end.
func rangeOf(e *cli.LogEvent) []byte {
	var o object
	if len(e.Key) > 0 {
		o.key("from", e.Key)
	}
	if len(e.Value) > 0 {
		o.key("to", e.Value)
	}
	return o.end()
}

// debezium is an event as the payload of a Debezium change event; nil if it had no effect.
func (h *headers) debezium(v *cli.LogView, e *cli.LogEvent) ([]byte, error) {
	if e.Flags&event.FlagNotApplied != 0 {
		return nil, nil
	}
	head, err := h.of(e)
	if err != nil {
		return nil, err
	}
	row := func(value []byte) string {
		var o object
		o.key("key", e.Key)
		if value != nil {
			o.value("value", value)
		}
		return string(o.end())
	}
	op, before, after, message := "m", "null", "null", ""
	switch e.Op {
	case event.OpPut:
		value, _, err := v.Value(e)
		if err != nil {
			return nil, err
		}
		op, after = "u", row(value)
	case event.OpDelete, event.OpExpire:
		op, before = "d", row(nil)
	default:
		content := rangeOf(e)
		if e.Op != event.OpDeleteRange {
			var o object
			if len(e.Key) > 0 {
				o.key("name", e.Key)
			}
			content = o.end()
		}
		var o object
		o.str("prefix", e.Op.String())
		o.str("content", base64.StdEncoding.EncodeToString(content))
		message = string(o.end())
	}
	var source, tx, o object
	source.str("version", "1")
	source.str("connector", "dyngo")
	source.str("name", fmt.Sprintf("%x", head.LogID))
	times(&source, e.Time)
	source.str("snapshot", "false")
	source.raw("db", `""`)
	source.str("table", e.DatasetName)
	source.num("lsn", int64(e.LSN))
	source.num("txId", int64(e.Tx))
	source.str("actor", e.Who.Actor)
	source.str("reason", e.Annotation("reason"))
	source.str("ticket", e.Annotation("ticket"))
	source.str("correlation", e.Annotation("correlation"))
	tx.str("id", strconv.FormatUint(uint64(e.Tx), 10))
	tx.num("total_order", int64(e.LSN-e.Tx)+1)
	if message == "" {
		o.raw("before", before)
		o.raw("after", after)
	}
	o.raw("source", string(source.end()))
	o.str("op", op)
	times(&o, e.Time)
	o.raw("transaction", string(tx.end()))
	if message != "" {
		o.raw("message", message)
	}
	return append(o.end(), '\n'), nil
}

func times(o *object, ns int64) {
	o.num("ts_ms", ns/1e6)
	o.num("ts_us", ns/1e3)
	o.num("ts_ns", ns)
}

// hexDump shows the bytes of an event as they stand in the log.
func hexDump(_ *cli.LogView, e *cli.LogEvent) ([]byte, error) {
	what := e.Op.String()
	if e.DatasetName != "" {
		what += " " + cli.EscapeBytes([]byte(e.DatasetName))
	}
	if len(e.Key) > 0 {
		what += " " + cli.QuoteKey(e.Key)
	}
	b := fmt.Appendf(nil, "LSN %d  %s\nlog file %d at %d, %d bytes\n", e.LSN, what, e.At.File, e.At.Offset, len(e.Wire))
	return append(append(b, hex.Dump(e.Wire)...), '\n'), nil
}
