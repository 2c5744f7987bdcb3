package dyngo

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/keyring"
)

// LSN is a log sequence number: 1, 2, 3 …, one per event, dense within a timeline. 0 means none.
type LSN = event.LSN

// Limits. Each is checked with an error that matches ErrLimit.
const (
	MaxKeyBytes     = 64 << 10 // a key has 1 to 64 Ki bytes
	MaxValueBytes   = 1 << 30  // a value has 0 to 1 Gi bytes; above MemoryBudget/4 only through PutReader
	MaxBatchBytes   = 4 << 30  // encoded size of one batch
	MaxNameBytes    = 255      // of a dataset's name
	MaxAnnotation   = 4 << 10  // bytes of Reason, Ticket, Correlation, and each field of Session
	minMemoryBudget = 8 << 20
)

// Options configure Open. The zero value is the default; nothing changes after Open.
type Options struct {
	// MemoryBudget is how many bytes recent events, their index, and blocks of segments take in memory, default 256 MiB, at
	// least 8 MiB. When recent events fill their share of it (five eighths, less what hot ranges and records take that are read), the
	// oldest are written as segments and leave memory. More memory: fewer device reads, and keys that are overwritten soon are written to segments less often.
	MemoryBudget int64
	// HotRangeBytes is how much of MemoryBudget hot ranges may take: key ranges that are scanned more than they cost are kept in key
	// order, beside recent events. 0 = an eighth, negative = none are kept, not even by KeepHot. At most half.
	HotRangeBytes int64
	// NoRecordCache has records that gets found in segments not kept beside their blocks, for measurements: the cache takes memory that
	// recent events leave unused, and gives it back when they need it.
	NoRecordCache bool
	// InMemory keeps the whole store in memory, log included; it is gone after Close. The directory's name is ignored.
	InMemory bool
	// ReadOnly takes no lock, creates and changes nothing, works beside a running writer and on a damaged store: it
	// serves the sound prefix of the log as it is now. Recovery says where that ends, and whether an older log file is missing of which
	// segments have what is current: what needs it of the past is an error then.
	ReadOnly bool
	// RecoverTo sets the store back to a state of its past before it is opened for writing: the log goes on from there in a
	// timeline of its own, and what the store was is kept as a snapshot, timeline-<digits>-<LSN> or, if that name is taken,
	// timeline-<digits>-<LSN>-2 and so on, which shares its files where the file system has hard links. This is done once, also if there was nothing to undo: the file RECOVERED-TO in the store's
	// directory names the target, and with the same one the store opens as it is, whatever was written or dropped since. So the
	// option may stay. Another target sets the store back again, and so does the same one when that file is removed. The zero
	// Target is none.
	RecoverTo Target
	// Session says who writes. It is logged once, before the first write.
	Session Session
	// Listener is told of events in the engine; nil fields are skipped.
	Listener *Listener
	// Logger receives warnings (DynGO coped) and errors (somebody must act). Default: silent.
	Logger *slog.Logger
	// Live serves statistics to tools on the Unix socket live.sock in the store's directory, mode 0600.
	Live bool
	// LogFileBytes is the size at which a log file is sealed and the next one started, default 64 MiB, 1 MiB to 1 GiB.
	LogFileBytes int64
	// Retention says how much of the log stays. Default: all of it.
	Retention Retention
	// Archive is a directory to which retention copies log files before it drops them, packed; see wal.OpenArchived for how
	// to read them. A file that can't be archived is not dropped. Several stores need several. Default: none, they are gone.
	Archive string
	// Integrity keeps a hash tree over the log in the folder integrity, so that changes of the past can be found (VerifyWith)
	// and single events proved to others (DB.Prove). A store that has begun a tree goes on with it whatever this says;
	// one that was set back (RecoverTo) begins another, and the old one is in the snapshot of what it was. The tree
	// is built behind the log, when the foreground leaves time; retention waits for it. It takes 44 bytes on disk for each
	// group of commits, for ever.
	Integrity bool
	// SigningKey signs heads of the tree, one for each log file, at Close and by DB.TreeHead. It is the text that
	// integrity.NewKey or `dyngo-cli verify --init-key` made. Keep it outside of the store. Default: heads are not signed.
	SigningKey string

	// Keys is the folder of the keys that values of subjects are encrypted under (WriteOptions.Subject), which DB.Erase destroys. It
	// is made with the first key, and must lie outside of the store and apart from backups of it: who has a copy of a key can
	// read what was erased. Who writes of subjects, or erases, has the folder locked until Close. Needed to read such values
	// too. Default: none.
	Keys string

	// KeyRing is used instead of Keys: a folder of keys on another file system, or one that is not to be changed. The caller closes it.
	KeyRing *keyring.Ring

	// FS and Clock replace the operating system in tests. Default: the operating system.
	FS    vfs.FS
	Clock clock.Clock

	// Sizes of batches that go to data frames, see batch.go. Only this package's tests set them.
	spillBatch, spillPiece int64
	noHotLook              bool // hot ranges are only weighed when a test says so

	// Values of subjects are given as they are stored. Only verification sets it.
	sealed bool

	// Set by Restore alone: the log goes on in a new timeline, behind this point of its parent.
	fork *fork
}

// Retention bounds the log. Its oldest files are dropped, whole, when one of the limits says so; never the newest file, and
// never one that is still needed: see DB.GCPlan for why a file stays. Dropped history is gone: what segments keep is the state
// at the floor, so the present and open views lose nothing. The zero Retention keeps everything.
type Retention struct {
	// Age is how old events may become, 0 = any age: a file goes when its newest event is older.
	Age time.Duration
	// Bytes is how much of the log stays, 0 = all: a file goes when the files after it take that much. So the log takes up to
	// one file more, and the newest. When it grows by an eighth and two files more than that while files are being dropped or
	// archived, or the disk has no room for what that writes, commits are held back: by 10 ms at most (Listener.Slowed).
	Bytes int64
}

// Session says who is at work: Actor (user or service), Address (where from), Client (program and version).
type Session struct {
	Actor, Address, Client string
}

func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.MemoryBudget == 0 {
		c.MemoryBudget = 256 << 20
	}
	if c.LogFileBytes == 0 {
		c.LogFileBytes = 64 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Listener == nil {
		c.Listener = &Listener{}
	}
	if c.FS == nil {
		if c.InMemory {
			c.FS = vfs.NewMem()
		} else {
			c.FS = vfs.OS
		}
	}
	if c.Clock == nil {
		c.Clock = clock.NewSystem()
	}
	if c.spillBatch == 0 {
		c.spillBatch, c.spillPiece = spillBatch, spillPiece
	}
	return c
}

func (o *Options) validate() error {
	if o.MemoryBudget < minMemoryBudget {
		return limitError("Options.MemoryBudget is %d bytes, at least %d are needed", o.MemoryBudget, minMemoryBudget)
	}
	if o.HotRangeBytes > o.MemoryBudget/2 {
		return limitError("Options.HotRangeBytes is %d, more than half of MemoryBudget, %d", o.HotRangeBytes, o.MemoryBudget)
	}
	if o.LogFileBytes < 1<<20 || o.LogFileBytes > 1<<30 {
		return limitError("Options.LogFileBytes is %d, allowed are 1 MiB to 1 GiB", o.LogFileBytes)
	}
	if o.Retention.Age < 0 || o.Retention.Bytes < 0 {
		return limitError("Options.Retention is %v and %d bytes, neither can be negative", o.Retention.Age, o.Retention.Bytes)
	}
	if o.RecoverTo.kind == targetSnapshot {
		if err := checkSnapshotName(o.RecoverTo.name); err != nil {
			return fmt.Errorf("dyngo: Options.RecoverTo: %w", err)
		}
	}
	if o.RecoverTo != (Target{}) && (o.InMemory || o.ReadOnly) {
		return fmt.Errorf("dyngo: Options.RecoverTo needs a store on disk that is opened for writing")
	}
	if o.Keys != "" && o.KeyRing != nil {
		return fmt.Errorf("dyngo: Options.Keys and Options.KeyRing exclude each other")
	}
	if o.InMemory && o.ReadOnly {
		return fmt.Errorf("dyngo: Options.InMemory and Options.ReadOnly exclude each other")
	}
	if k, err := integrity.ParseKey(o.SigningKey); o.SigningKey != "" && (err != nil || !k.Private()) {
		return errors.Join(errors.New("dyngo: Options.SigningKey is no private key"), err)
	}
	for name, s := range map[string]string{"Actor": o.Session.Actor, "Address": o.Session.Address, "Client": o.Session.Client} {
		if len(s) > MaxAnnotation {
			return limitError("Options.Session.%s has %d bytes, at most %d are allowed", name, len(s), MaxAnnotation)
		}
	}
	return nil
}

// Consistency says when a dataset's writes are visible and acknowledged. It can't be changed later.
type Consistency uint8

const (
	// Strong: acknowledged when durable, visible when durable. Nothing acknowledged or seen is ever lost.
	Strong Consistency = iota
	// Causal: acknowledged and visible when applied in memory. A crash may lose at most the last 10 ms.
	Causal
	// Eventual: as Causal on one node, a crash may lose at most the last second.
	Eventual
)

func (c Consistency) String() string {
	switch c {
	case Strong:
		return "strong"
	case Causal:
		return "causal"
	case Eventual:
		return "eventual"
	}
	return fmt.Sprintf("Consistency(%d)", uint8(c))
}

// window is how much of a suffix a crash may lose.
func (c Consistency) window() time.Duration {
	switch c {
	case Causal:
		return 10 * time.Millisecond
	case Eventual:
		return time.Second
	}
	return 0
}

// Compression says how a dataset's values are stored. Values that don't get smaller are stored as they are.
type Compression uint8

const (
	NoCompression Compression = iota
	S2                        // fast, about 2:1 on text
	Zstd                      // smaller, several times the CPU of S2
)

func (c Compression) String() string {
	switch c {
	case NoCompression:
		return "off"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// DatasetOptions are stored with the dataset when it is created. The zero value is the default.
type DatasetOptions struct {
	// Consistency of the dataset's writes and reads, default Strong.
	Consistency Consistency
	// TTL is the default time to live of its values, 0 = for ever. WriteOptions.TTL overrides it.
	TTL time.Duration
	// LargeValue is the size in bytes from which a value is written once, apart from the small commits, and does not
	// stay in memory. Default 8 KiB, 1 KiB to 256 KiB.
	LargeValue int
	// Compression of values, default off.
	Compression Compression
}

const (
	defaultLargeValue = 8 << 10
	minLargeValue     = 1 << 10
	maxLargeValue     = 256 << 10
)

func (o *DatasetOptions) withDefaults() DatasetOptions {
	var c DatasetOptions
	if o != nil {
		c = *o
	}
	if c.LargeValue == 0 {
		c.LargeValue = defaultLargeValue
	}
	return c
}

func (o DatasetOptions) validate() error {
	switch {
	case o.Consistency > Eventual:
		return limitError("DatasetOptions.Consistency is %d, allowed are Strong, Causal and Eventual", o.Consistency)
	case o.TTL < 0:
		return limitError("DatasetOptions.TTL is %v, it can't be negative", o.TTL)
	case o.LargeValue < minLargeValue || o.LargeValue > maxLargeValue:
		return limitError("DatasetOptions.LargeValue is %d bytes, allowed are %d to %d", o.LargeValue, minLargeValue, maxLargeValue)
	case o.Compression > Zstd:
		return limitError("DatasetOptions.Compression is %d, allowed are NoCompression, S2 and Zstd", o.Compression)
	}
	return nil
}

// Ack says when a write returns. It never changes what reads see: that is the dataset's Consistency.
type Ack uint8

const (
	AckDefault Ack = iota // as the dataset's Consistency says
	AckDurable            // when it survives power loss
	AckApplied            // when it is applied in memory
)

// WriteOptions are the options of one write or batch. The zero value is the default.
type WriteOptions struct {
	// TTL is the time to live of the value, 0 = the dataset's, negative = already expired: the write is logged and
	// the key is absent at once.
	TTL time.Duration
	// Ack says when the write returns.
	Ack Ack
	// Subject is whom the value is about, 1 to 255 bytes of UTF-8: the value is encrypted under a key of its own before it reaches
	// the log, and can't be read any more once the subject is erased (DB.Erase). The key and all else of the record is not
	// encrypted and should not hold personal data; the name is neither in the log nor in names of files. Needs Options.Keys.
	// Such a value has at most 1 GiB less 256 KiB. A subject has one key, which is good for 2^32 values, or pieces of 256 KiB of large
	// ones; nobody counts them (package keyring). No meaning for deletes. Default: none, the value is not encrypted.
	Subject string
	// Reason and Ticket say why, Correlation what else belongs to it, such as the id of a request; they are kept in the event
	// for audits.
	Reason, Ticket, Correlation string
}

func (o *WriteOptions) validate() error {
	switch {
	case o.Ack > AckApplied:
		return limitError("WriteOptions.Ack is %d, allowed are AckDefault, AckDurable and AckApplied", o.Ack)
	case o.Subject != "" && keyring.CheckSubject(o.Subject) != nil:
		return limitError("WriteOptions.Subject: %v", keyring.CheckSubject(o.Subject))
	case len(o.Reason) > MaxAnnotation:
		return limitError("WriteOptions.Reason has %d bytes, at most %d are allowed", len(o.Reason), MaxAnnotation)
	case len(o.Ticket) > MaxAnnotation:
		return limitError("WriteOptions.Ticket has %d bytes, at most %d are allowed", len(o.Ticket), MaxAnnotation)
	case len(o.Correlation) > MaxAnnotation:
		return limitError("WriteOptions.Correlation has %d bytes, at most %d are allowed", len(o.Correlation), MaxAnnotation)
	}
	return nil
}

// Range selects keys of a scan.
type Range struct {
	From, To []byte // [From, To) in byte order; nil = open end
	Reverse  bool   // from the highest key down
	Limit    int    // at most so many pairs, 0 = all
	KeysOnly bool   // Value is nil; values are not read
}

// Prefix selects the keys that begin with p.
func Prefix(p []byte) Range {
	r := Range{From: p}
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			r.To = append(append([]byte(nil), p[:i]...), p[i]+1)
			break
		}
	}
	return r
}

// KV is a key with its current version.
type KV struct {
	Key, Value []byte
	LSN        LSN       // of the event that wrote it
	Time       time.Time // log time of that event
	Expires    time.Time // zero = never
	Subject    string    // whom the value is about, see WriteOptions.Subject; empty = nobody
}

// DatasetInfo describes a dataset.
type DatasetInfo struct {
	Name    string
	ID      uint32
	Created LSN
	Options DatasetOptions
}
