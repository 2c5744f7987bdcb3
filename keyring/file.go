package keyring

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

const (
	// MaxSubject bounds the bytes of a subject's name.
	MaxSubject = 255

	magicRing    = "DYNGOKYR"
	magicKey     = "DYNGOKEY"
	magicErasure = "DYNGOERA"
	version      = 1

	headSize = 16
	ringSize = 64
	fileSize = 512

	ringName      = "KEYRING"
	lockName      = "LOCK"
	tempName      = "NEW.tmp"
	keySuffix     = ".key"
	erasurePrefix = "erasing-"

	maxErasure = 64 << 10 // bytes of its file

	stateLive      = 1
	stateDestroyed = 2
)

var le = binary.LittleEndian

// sealFile puts the head in front of a file's bytes, which have room for it.
func sealFile(b []byte, magic string) []byte {
	copy(b, magic)
	le.PutUint32(b[12:], version)
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

// checkFile checks the head of a file.
func checkFile(b []byte, magic string) error {
	switch {
	case len(b) < headSize:
		return corruption.New(int64(len(b)), "%d bytes, a file of keys has at least %d", len(b), headSize)
	case string(b[:8]) != magic:
		return corruption.New(0, "magic %q, want %q", b[:8], magic)
	case le.Uint32(b[8:]) != coding.CRC(b[12:]):
		return corruption.New(8, "crc %08x, want %08x", coding.CRC(b[12:]), le.Uint32(b[8:]))
	case le.Uint32(b[12:]) == 0:
		return corruption.New(12, "version 0")
	case le.Uint32(b[12:]) != version:
		return event.Unsupported("version %d of a file of keys", le.Uint32(b[12:]))
	}
	return nil
}

// encodeRing is the content of KEYRING.
func encodeRing(secret [32]byte, created int64) []byte {
	b := make([]byte, ringSize)
	le.PutUint64(b[16:], uint64(created))
	copy(b[24:], secret[:])
	return sealFile(b, magicRing)
}

func parseRing(b []byte) (secret [32]byte, err error) {
	if err := checkFile(b, magicRing); err != nil {
		return secret, err
	}
	if len(b) != ringSize || !coding.AllZero(b[56:]) {
		return secret, corruption.New(56, "%d bytes, want %d with zeros at the end", len(b), ringSize)
	}
	return [32]byte(b[24:]), nil
}

// record is the content of a key file.
type record struct {
	id          uint64
	destroyed   bool
	created     int64
	gone        int64 // destroyed: when
	lsn         event.LSN
	logID       [16]byte
	digest      [32]byte
	fingerprint [16]byte
	key         [32]byte // live
	subject     string   // live
}

func fingerprintOf(key [32]byte) [16]byte {
	h := sha256.Sum256(append([]byte("dyngo subject key"), key[:]...))
	return [16]byte(h[:])
}

func (r *record) encode() []byte {
	b := make([]byte, fileSize)
	le.PutUint64(b[16:], r.id)
	b[24] = stateLive
	if r.destroyed {
		b[24] = stateDestroyed
	}
	for i, v := range [...]uint64{uint64(r.created), uint64(r.gone), uint64(r.lsn)} {
		le.PutUint64(b[32+8*i:], v)
	}
	copy(b[56:], r.logID[:])
	copy(b[72:], r.digest[:])
	copy(b[104:], r.fingerprint[:])
	copy(b[120:], r.key[:])
	b[152] = byte(len(r.subject))
	copy(b[153:408], r.subject)
	return sealFile(b, magicKey)
}

func parseRecord(b []byte) (r record, err error) {
	if err := checkFile(b, magicKey); err != nil {
		return r, err
	}
	if len(b) != fileSize {
		return r, corruption.New(int64(min(len(b), fileSize)), "%d bytes, a key file has %d", len(b), fileSize)
	}
	n := int(b[152])
	r = record{
		id: le.Uint64(b[16:]), destroyed: b[24] == stateDestroyed, created: int64(le.Uint64(b[32:])), gone: int64(le.Uint64(b[40:])),
		lsn: event.LSN(le.Uint64(b[48:])), logID: [16]byte(b[56:]), digest: [32]byte(b[72:]), fingerprint: [16]byte(b[104:]),
		key: [32]byte(b[120:]), subject: string(b[153 : 153+n]),
	}
	switch {
	case b[24] != stateLive && b[24] != stateDestroyed:
		return r, corruption.New(24, "state %d", b[24])
	case !coding.AllZero(b[25:32]) || !coding.AllZero(b[153+n:]):
		return r, corruption.New(25, "reserved bytes are not zero")
	case r.destroyed && (!coding.AllZero(b[120:]) || r.lsn > event.MaxLSN):
		return r, corruption.New(120, "a key that was destroyed is there")
	case !r.destroyed && (!coding.AllZero(b[40:72]) || n == 0):
		return r, corruption.New(40, "a live key has no subject, or was destroyed")
	case !r.destroyed && r.fingerprint != fingerprintOf(r.key):
		return r, corruption.New(104, "the fingerprint is that of another key")
	}
	return r, nil
}

// keyName is the name of a key's file.
func keyName(id uint64) string { return fmt.Sprintf("%016x%s", id, keySuffix) }

func (e *Erasure) encode() []byte {
	b := le.AppendUint64(make([]byte, headSize), e.ID)
	b = append(append(b, e.digest[:]...), e.Fingerprint[:]...)
	for _, v := range [...]uint64{uint64(e.Created), uint64(e.Begun), uint64(e.After)} {
		b = le.AppendUint64(b, v)
	}
	for _, s := range []string{e.Reason, e.Ticket, e.Correlation} {
		b = coding.AppendBytes(b, s)
	}
	return sealFile(b, magicErasure)
}

func parseErasure(b []byte) (*Erasure, error) {
	if err := checkFile(b, magicErasure); err != nil {
		return nil, err
	}
	r := coding.NewReader(b)
	r.Next(headSize)
	e := &Erasure{ID: r.Uint64()}
	copy(e.digest[:], r.Next(uint64(len(e.digest))))
	copy(e.Fingerprint[:], r.Next(uint64(len(e.Fingerprint))))
	e.Created, e.Begun, e.After = int64(r.Uint64()), int64(r.Uint64()), event.LSN(r.Uint64())
	e.Reason, e.Ticket, e.Correlation = string(r.Bytes()), string(r.Bytes()), string(r.Bytes())
	if err := r.End(); err != nil {
		return nil, &corruption.Error{Offset: int64(r.Offset()), What: "erasure", Err: err}
	}
	return e, nil
}
