package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
)

// Key encrypts the values of one subject. Immutable, safe for concurrent use.
type Key struct {
	ID      uint64
	Subject string
	Created int64 // wall time, Unix nanoseconds

	aead cipher.AEAD
}

func newKey(r *record) *Key {
	block, err := aes.NewCipher(r.key[:])
	if err != nil {
		panic("dyngo: bug: " + err.Error()) // the length is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("dyngo: bug: " + err.Error()) // so is the block's
	}
	return &Key{ID: r.id, Subject: r.subject, Created: r.created, aead: aead}
}

// Overhead is how much longer a sealed piece is than its bytes, without a codec.
const Overhead = 12 + 1 + 16

// Piece says which part of which record's value bytes are.
type Piece struct {
	Key   []byte // of the record
	Index uint32 // from 0
	Last  bool
}

// errSealed is what a piece that doesn't open is wrapped as.
var errSealed = errors.New("it was sealed with another key, for another record, or is damaged")

func (k *Key) authenticated(p Piece) []byte {
	b := make([]byte, 0, 1+8+4+1+len(p.Key))
	b = le.AppendUint32(le.AppendUint64(append(b, 1), k.ID), p.Index)
	last := byte(0)
	if p.Last {
		last = 1
	}
	return append(append(b, last), p.Key...)
}

// Seal appends the sealed piece of stored, which codec has packed from rawSize bytes, or which are themselves the bytes with
// event.CodecNone.
func (k *Key) Seal(dst []byte, p Piece, codec event.Codec, rawSize int, stored []byte) []byte {
	plain := append(make([]byte, 0, 1+coding.MaxVarintLen+len(stored)), byte(codec))
	if codec != event.CodecNone {
		plain = coding.AppendUvarint(plain, uint64(rawSize))
	}
	plain = append(plain, stored...)
	return k.aead.Seal(dst, nil, plain, k.authenticated(p))
}

// Open gives back what Seal was given. The bytes are the caller's. An error says that the piece is damaged or belongs elsewhere.
func (k *Key) Open(p Piece, sealed []byte) (codec event.Codec, rawSize int, stored []byte, err error) {
	plain, err := k.aead.Open(nil, nil, sealed, k.authenticated(p))
	if err != nil {
		return 0, 0, nil, errSealed
	}
	r := coding.NewReader(plain)
	codec, rawSize = event.Codec(r.Byte()), r.Len()
	if codec != event.CodecNone {
		n := r.Uvarint()
		if r.Err() == nil && n > event.MaxValueBytes {
			r.Fail(errors.New("length out of range"))
		}
		rawSize = int(n)
	}
	if r.Err() != nil {
		return 0, 0, nil, r.Err()
	}
	return codec, rawSize, r.Next(uint64(r.Len())), nil
}
