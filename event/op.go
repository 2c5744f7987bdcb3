package event

import "strconv"

// Op says what an event does. Never renumber.
//
// An op below 0x80 must be understood: a reader that does not know it stops with ErrUnsupported. One from 0x80 on may be
// skipped.
type Op uint8

// Changes of data. The dataset is not 0, the key not empty (but see OpDeleteRange).
const (
	OpPut         Op = 1 // key has value
	OpDelete      Op = 2 // key has no value; the event holds none
	OpDeleteRange Op = 3 // keys in [key, value) have none; key empty: from the first; value empty: to the last
	OpExpire      Op = 4 // ends the version of key that the previous-LSN part names, and no other; holds no value
	OpMerge       Op = 5 // value is an operand for the dataset's merge function
	OpRedact      Op = 6 // the value of the version of key that the previous-LSN part names was destroyed; holds no value
)

// System events. Where nothing is said of the dataset it is 0, of the value it is opaque to this version.
const (
	OpDatasetCreated Op = 16 // dataset its id, key its name, value its encoded DatasetOptions
	OpDatasetChanged Op = 17 // as created, with the new name and options
	OpDatasetDropped Op = 18 // dataset its id, key its name, no value
	OpSessionOpened  Op = 19 // no key, value an encoded Session
	OpSegmentSealed  Op = 20 // key the file name, value its hash (kind: see the log file's header)
	OpIndexCreated   Op = 21 // dataset its id, key the index's name, value its definition, reason as annotation
	OpIndexDropped   Op = 22 // dataset its id, key the index's name, reason as annotation
	OpViewCreated    Op = 23 // key the materialized view's name, value its definition, reason as annotation
	OpViewDropped    Op = 24 // key the materialized view's name, reason as annotation
	OpSnapshot       Op = 25 // key the snapshot's name, value uvarint LSN of its state
	OpFork           Op = 26 // first event of a timeline: key the parent's id, value uvarint LSN of the fork
	OpConsumerAcked  Op = 27 // key the consumer's name, value uvarint LSN
	OpKeyDestroyed   Op = 28 // the subject key of the subject-key part is gone for good
	OpClockAnomaly   Op = 29 // value i64: wall clock minus monotonic clock since the last group, nanoseconds
)
const opSkippable Op = 0x80

var opNames = [...]string{
	OpPut: "put", OpDelete: "delete", OpDeleteRange: "delete-range", OpExpire: "expire", OpMerge: "merge",
	OpRedact: "redact", OpDatasetCreated: "dataset-created", OpDatasetChanged: "dataset-changed",
	OpDatasetDropped: "dataset-dropped", OpSessionOpened: "session-opened", OpSegmentSealed: "segment-sealed",
	OpIndexCreated: "index-created", OpIndexDropped: "index-dropped", OpViewCreated: "view-created",
	OpViewDropped: "view-dropped", OpSnapshot: "snapshot", OpFork: "fork", OpConsumerAcked: "consumer-acknowledged",
	OpKeyDestroyed: "key-destroyed", OpClockAnomaly: "clock-anomaly",
}

// knownOps has the bit of each op that this version knows.
const knownOps uint64 = 1<<(OpRedact+1) - 1<<OpPut | 1<<(OpClockAnomaly+1) - 1<<OpDatasetCreated

// Known reports whether this version knows the op.
func (o Op) Known() bool { return knownOps>>o&1 != 0 }

// Skippable reports whether a reader that does not know the op may pass over it.
func (o Op) Skippable() bool { return o&opSkippable != 0 }

// System reports whether the op is none of the changes of data.
func (o Op) System() bool { return o >= OpDatasetCreated }

// String returns the op's name, "op(n)" for one that this version does not know.
func (o Op) String() string {
	if o.Known() {
		return opNames[o]
	}
	return "op(" + strconv.Itoa(int(o)) + ")"
}
