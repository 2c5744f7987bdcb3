// Verifier checks proof bundles of DynGO with nothing but the standard library: see README.md, which says what is checked.
//
//	verifier [-key FILE.pub] BUNDLE.json …
//
// It prints one line for each bundle and exits with 0 if all hold, with 2 if it was called wrongly, else with 1.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strconv"
	"strings"
)

type hash [32]byte

// UnmarshalJSON reads base64 of 32 bytes.
func (h *hash) UnmarshalJSON(b []byte) error {
	var raw []byte
	if err := json.Unmarshal(b, &raw); err != nil || len(raw) != len(h) {
		return fmt.Errorf("no hash of 32 bytes: %s", b)
	}
	*h = hash(raw)
	return nil
}

func sum(parts ...[]byte) hash { return sha256.Sum256(bytes.Join(parts, nil)) }
func node(l, r hash) hash      { return sum([]byte{1}, l[:], r[:]) }

type bundle struct {
	Format string
	Event  struct {
		LSN, Session            uint64
		Time                    int64
		Op, Flags               uint8
		Dataset                 uint32
		KeyHash                 hash `json:"key_hash"`
		ValueHash               hash `json:"value_hash"`
		Parts, Salt, Key, Value []byte
	}
	Frame struct {
		LSN, HLC uint64
		Count    uint32
		Wall     int64
		Proof    []hash
	}
	Tree struct {
		Index, Size uint64
		Proof       []hash
	}
	Head, Old, New string
	Proof          []hash
}

type head struct {
	origin, lsn, time string
	size              uint64
	root              hash
}

// readNote takes a note apart: a text, an empty line, signatures. With a key, one of them must be the key's.
func readNote(note string, k *key) (text string, err error) {
	text, sigs, ok := strings.Cut(note, "\n\n")
	if !ok {
		return "", errors.New("there is no note")
	}
	if k == nil {
		return text, nil
	}
	for line := range strings.SplitSeq(sigs, "\n") {
		name, sig, ok := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(sig)
		if !ok || err != nil || name != k.name || len(raw) != 4+ed25519.SignatureSize || !bytes.Equal(raw[:4], k.id[:]) {
			continue
		}
		if ed25519.Verify(k.public, []byte(text+"\n"), raw[4:]) {
			return text, nil
		}
	}
	return "", errors.New("it is not signed with the key")
}

// readHead takes the note of a head apart, which has five lines.
func readHead(note string, k *key) (h head, err error) {
	text, err := readNote(note, k)
	if err != nil {
		return h, fmt.Errorf("the head: %w", err)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[0] == "" || !strings.HasPrefix(lines[3], "lsn ") || !strings.HasPrefix(lines[4], "time ") {
		return h, errors.New("the head is no note of five lines")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	root, err2 := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || err2 != nil || len(root) != 32 {
		return h, errors.New("the head has no size, or no root")
	}
	return head{origin: lines[0], size: size, root: hash(root), lsn: lines[3][4:], time: lines[4][5:]}, nil
}

type key struct {
	name   string
	id     [4]byte
	public ed25519.PublicKey
}

// readKey reads name+id+base64(1 · public key).
func readKey(text string) (*key, error) {
	f := strings.SplitN(strings.TrimSpace(text), "+", 3)
	if len(f) != 3 {
		return nil, errors.New("the key is not name+id+key")
	}
	raw, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != 1 {
		return nil, errors.New("the key is no Ed25519 key")
	}
	id := sum([]byte(f[0]+"\n"), raw)
	if fmt.Sprintf("%x", id[:4]) != f[1] {
		return nil, errors.New("the key's id is wrong")
	}
	return &key{f[0], [4]byte(id[:4]), raw[1:]}, nil
}

// climb follows an RFC 6962 audit path from leaf i of n to the root.
func climb(h hash, i, n uint64, path []hash) (hash, error) {
	if i >= n {
		return h, errors.New("the leaf is not in the tree")
	}
	var left []bool // of each step from the root down: is the sibling on the left
	for n > 1 {
		k := uint64(1) << (bits.Len64(n-1) - 1)
		if left = append(left, i >= k); i < k {
			n = k
		} else {
			i, n = i-k, n-k
		}
	}
	if len(left) != len(path) {
		return h, fmt.Errorf("the path has %d hashes, %d are wanted", len(path), len(left))
	}
	for j, p := range path {
		if left[len(left)-1-j] {
			h = node(p, h)
		} else {
			h = node(h, p)
		}
	}
	return h, nil
}

// commitment is H(kind · data), or salted.
func commitment(kind byte, salt, data []byte) hash {
	if len(salt) > 0 {
		kind += 2
	}
	return sum([]byte{kind}, salt, data)
}

func inclusion(b *bundle, k *key) (string, error) {
	h, err := readHead(b.Head, k)
	if err != nil {
		return "", err
	}
	e, f, t := &b.Event, &b.Frame, &b.Tree
	switch {
	case e.Key != nil && commitment(2, e.Salt, e.Key) != e.KeyHash:
		return "", errors.New("the key is not the one of key_hash")
	case e.Value != nil && commitment(3, e.Salt, e.Value) != e.ValueHash:
		return "", errors.New("the value is not the one of value_hash")
	case e.LSN < f.LSN || e.LSN-f.LSN >= uint64(f.Count):
		return "", errors.New("the event is not in the frame")
	case t.Size != h.size:
		return "", errors.New("the proof is for a tree of another size")
	}
	le := binary.LittleEndian
	leaf := le.AppendUint32([]byte{0, 1, e.Op, e.Flags, 0}, e.Dataset)
	leaf = le.AppendUint64(le.AppendUint64(le.AppendUint64(leaf, e.LSN), uint64(e.Time)), e.Session)
	root, errFrame := climb(sum(leaf, e.KeyHash[:], e.ValueHash[:], e.Parts), e.LSN-f.LSN, uint64(f.Count), f.Proof)
	record := le.AppendUint32([]byte{0, 1, 0, 0, 0}, f.Count)
	record = le.AppendUint64(le.AppendUint64(le.AppendUint64(record, f.LSN), uint64(f.Wall)), f.HLC)
	root, errTree := climb(sum(record, root[:]), t.Index, t.Size, t.Proof)
	if err := errors.Join(errFrame, errTree); err != nil {
		return "", err
	}
	if root != h.root {
		return "", errors.New("the path does not lead to the root of the head")
	}
	return fmt.Sprintf("event %d (op %d, key %q) is in the log %s, tree head of %d frames, LSN %s, of %s", e.LSN, e.Op, e.Key, h.origin,
		h.size, h.lsn, h.time), nil
}

// consistency checks an RFC 6962 consistency proof.
func consistency(b *bundle, k *key) (string, error) {
	from, errFrom := readHead(b.Old, k)
	to, errTo := readHead(b.New, k)
	if err := errors.Join(errFrom, errTo); err != nil {
		return "", err
	}
	if from.origin != to.origin || from.size < 1 || from.size > to.size {
		return "", errors.New("the heads are of two logs, or in the wrong order")
	}
	// walk computes both roots of the subtree of n leaves in which the older tree has m; whole says that the older tree is the
	// subtree's and its root known.
	var walk func(m, n uint64, whole bool) (o, nw hash, ok bool)
	rest := b.Proof
	next := func() (h hash, ok bool) {
		if ok = len(rest) > 0; ok {
			h, rest = rest[0], rest[1:]
		}
		return h, ok
	}
	walk = func(m, n uint64, whole bool) (o, nw hash, ok bool) {
		if m == n {
			if whole {
				return from.root, from.root, true
			}
			h, ok := next()
			return h, h, ok
		}
		p := uint64(1) << (bits.Len64(n-1) - 1)
		if m <= p {
			o, l, ok := walk(m, p, whole)
			r, ok2 := next()
			return o, node(l, r), ok && ok2
		}
		o, nw, ok = walk(m-p, n-p, false)
		l, ok2 := next()
		return node(l, o), node(l, nw), ok && ok2
	}
	oldRoot, newRoot, ok := walk(from.size, to.size, true)
	if !ok || len(rest) > 0 || oldRoot != from.root || newRoot != to.root {
		return "", errors.New("the older log is no prefix of the newer one")
	}
	return fmt.Sprintf("the log %s of %d frames, LSN %s, of %s begins that of %d frames, LSN %s, of %s", to.origin, from.size, from.lsn,
		from.time, to.size, to.lsn, to.time), nil
}

func check(data []byte, k *key) (string, error) {
	var b bundle
	err := json.Unmarshal(data, &b)
	switch {
	case b.Format == "dyngo-erasure-1":
		return erasure(data, k) // see erasure.go
	case err != nil:
		return "", err
	case b.Format == "dyngo-inclusion-1":
		return inclusion(&b, k)
	case b.Format == "dyngo-consistency-1":
		return consistency(&b, k)
	}
	return "", fmt.Errorf("format %q is not known", b.Format)
}

var errUsage = errors.New("usage: verifier [-key FILE.pub] BUNDLE.json …")

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("verifier", flag.ExitOnError)
	keyFile := flags.String("key", "-", "file with the public key that heads must be signed with, - for none")
	_ = flags.Parse(args) // exits
	if flags.NArg() == 0 {
		return errUsage
	}
	var k *key
	if *keyFile != "-" {
		if text, err := os.ReadFile(*keyFile); err != nil {
			return err
		} else if k, err = readKey(string(text)); err != nil {
			return err
		}
	}
	for _, name := range flags.Args() {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		what, err := check(data, k)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(out, "%s: %s, signature checked: %t\n", name, what, k != nil)
	}
	return nil
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "verifier:", err)
		os.Exit(map[bool]int{true: 2, false: 1}[errors.Is(err, errUsage)])
	}
}
