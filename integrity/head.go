package integrity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Head is a tree head: the root over the log up to an LSN.
type Head struct {
	Origin string // says which log, see Origin
	Size   int64  // frames
	Root   Hash
	LSN    event.LSN // of the last event in it
	Time   time.Time // when it was made
	Signed string    // names whose signatures were checked, with commas; empty = none
}

// Origin of the heads of a log.
func Origin(logID [16]byte) string { return fmt.Sprintf("dyngo.log/%x", logID) }

// Text is the head as it is signed.
func (h *Head) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\nlsn %d\ntime %s\n", h.Origin, h.Size, base64.StdEncoding.EncodeToString(h.Root[:]), h.LSN,
		h.Time.UTC().Format(time.RFC3339Nano))
}

// String says which head it is.
func (h *Head) String() string {
	return fmt.Sprintf("tree head of %d frames, up to LSN %d, of %s", h.Size, h.LSN, h.Time.UTC().Format(time.RFC3339))
}

// parseHead reads a head back. It has one spelling.
func parseHead(text string) (Head, error) {
	lines := strings.Split(text, "\n")
	bad := func(what string) (Head, error) { return Head{}, fmt.Errorf("tree head: %s", what) }
	if len(lines) != 6 || lines[5] != "" || lines[0] == "" {
		return bad("five lines are wanted: origin, size, root, lsn, time")
	}
	h := Head{Origin: lines[0]}
	var err error
	if h.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || h.Size < 0 {
		return bad("line 2 is no size")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(h.Root) {
		return bad("line 3 is no hash")
	}
	h.Root = Hash(root)
	lsn, ok := strings.CutPrefix(lines[3], "lsn ")
	n, err := strconv.ParseUint(lsn, 10, 63)
	if !ok || err != nil {
		return bad("line 4 is no LSN")
	}
	h.LSN = event.LSN(n)
	at, ok := strings.CutPrefix(lines[4], "time ")
	if h.Time, err = time.Parse(time.RFC3339Nano, at); !ok || err != nil {
		return bad("line 5 is no time")
	}
	if h.Text() != text {
		return bad("it is spelled in another way")
	}
	return h, nil
}

// Key signs heads, or only checks them if it is a public one.
type Key struct {
	signer   note.Signer // nil for a public key
	verifier note.Verifier
	public   string
}

const (
	keyName       = "dyngo"
	privatePrefix = "PRIVATE+KEY+"
	algEd25519    = 1
)

// NewKey makes an Ed25519 key from random bytes: the text of the private key, which signs, and that of the public one.
func NewKey(random io.Reader) (private, public string, err error) {
	return note.GenerateKey(random, keyName)
}

// ParseKey reads what NewKey made, the private or the public text.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	k := &Key{public: text}
	var err error
	if strings.HasPrefix(text, privatePrefix) {
		if k.signer, err = note.NewSigner(text); err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		n := base64.StdEncoding.EncodedLen(1 + ed25519.SeedSize)
		seed, err := base64.StdEncoding.DecodeString(text[max(0, len(text)-n):])
		if err != nil || len(seed) != 1+ed25519.SeedSize || seed[0] != algEd25519 {
			return nil, errors.New("signing key: it is no Ed25519 key")
		}
		public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
		if k.public, err = note.NewEd25519VerifierKey(k.signer.Name(), public); err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
	}
	if k.verifier, err = note.NewVerifier(k.public); err != nil {
		return nil, fmt.Errorf("key of tree heads: %w", err)
	}
	return k, nil
}

// Public is the text of the public key.
func (k *Key) Public() string { return k.public }

// Private says whether the key can sign.
func (k *Key) Private() bool { return k != nil && k.signer != nil }

// Sign returns the head as a note, signed if the key can.
func (k *Key) Sign(h *Head) (string, error) {
	return k.sign(h.Text())
}

func (k *Key) sign(text string) (string, error) {
	if !k.Private() {
		return text + "\n", nil
	}
	msg, err := note.Sign(&note.Note{Text: text}, k.signer)
	return string(msg), err
}

// maxHeadBytes bounds one head as a note.
const maxHeadBytes = 64 << 10

// ParseNote reads a note back. With a key, it must be signed with it; without, signatures are not looked at.
func (k *Key) ParseNote(msg string) (Head, error) {
	text, rest, ok := strings.Cut(msg, "\n\n")
	if !ok || len(msg) > maxHeadBytes {
		return Head{}, errors.New("tree head: it ends early")
	}
	h, err := parseHead(text + "\n")
	if err != nil || k == nil {
		return h, err
	}
	if rest == "" {
		return h, errors.New("tree head: it is not signed")
	}
	n, err := note.Open([]byte(msg), note.VerifierList(k.verifier))
	if err != nil {
		return h, fmt.Errorf("tree head: not signed with the key %s: %w", k.public, err)
	}
	for i, s := range n.Sigs {
		if i > 0 {
			h.Signed += ","
		}
		h.Signed += fmt.Sprintf("%s+%08x", s.Name, s.Hash)
	}
	return h, nil
}

// HeadError says which head of a file is not what it should be.
type HeadError struct {
	Line int // where it begins, from 1
	Err  error
}

func (e *HeadError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *HeadError) Unwrap() error { return e.Err }

// noteEnd is where the first note in data ends, with its signatures; -1 if it is not whole.
func noteEnd(data []byte) int {
	end := bytes.Index(data, []byte("\n\n"))
	if end < 0 {
		return -1
	}
	end += 2
	for bytes.HasPrefix(data[end:], []byte("— ")) {
		n := bytes.IndexByte(data[end:], '\n')
		if n < 0 {
			return -1
		}
		end += n + 1
	}
	return end
}

// ParseHeads reads a file of notes, one behind the other: each is five lines, an empty one and its signatures. torn says that
// the last is not whole, as a crash leaves it. The error is a *HeadError.
func (k *Key) ParseHeads(data []byte) (heads []Head, torn bool, err error) {
	line := 1
	for len(data) > 0 {
		end := noteEnd(data)
		if end < 0 {
			return heads, true, nil
		}
		h, err := k.ParseNote(string(data[:end]))
		if err != nil {
			return heads, false, &HeadError{Line: line, Err: err}
		}
		heads = append(heads, h)
		line += bytes.Count(data[:end], []byte("\n"))
		data = data[end:]
	}
	return heads, false, nil
}

// MaxHeadsBytes bounds a file of heads.
const MaxHeadsBytes = 64 << 20

// AppendNote adds a note to a file of heads, durably and in one step. What is there stays as it is.
func AppendNote(fsys vfs.FS, name, msg string) error { return addNote(fsys, name, msg, math.MaxInt) }

// maxKept bounds the heads in a store's own file: of 64 GiB of log, if each log file has one.
const maxKept = 1024

// KeepNote is AppendNote to the file of the heads that a store signs itself. When there are more than 1024, every second of the
// older half goes: the file stays small, heads lie the further apart the older they are, and the first and the newest stay.
func KeepNote(fsys vfs.FS, name, msg string) error { return addNote(fsys, name, msg, maxKept) }

func addNote(fsys vfs.FS, name, msg string, limit int) error {
	data, err := fsys.ReadFile(name, MaxHeadsBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return vfs.WriteFileSync(fsys, name, append(thin(data, limit), msg...))
}

// thin removes notes until there are fewer than limit.
func thin(data []byte, limit int) []byte {
	var notes [][]byte
	for rest := data; len(rest) > 0; {
		end := noteEnd(rest)
		if end < 0 { // damaged: it stays as it is, for Verify
			return data
		}
		notes, rest = append(notes, rest[:end]), rest[end:]
	}
	if len(notes) < limit {
		return data
	}
	for len(notes) >= limit {
		kept := notes[:0]
		for i, n := range notes {
			if i >= len(notes)/2 || i%2 == 0 {
				kept = append(kept, n)
			}
		}
		notes = kept
	}
	return bytes.Join(notes, nil)
}
