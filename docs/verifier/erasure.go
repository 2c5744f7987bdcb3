package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// certificate states that a subject was erased.
type certificate struct {
	Log, Subject, Key, Fingerprint string
	Created, Time                  time.Time
	LSN                            uint64
	Actor, Reason, Ticket          string
	Events, From                   uint64
	Remains                        string
	Proof                          *bundle
	Note                           string
}

// erasure checks that the note says what the certificate does, and that the event with the key's end is in the log.
func erasure(data []byte, k *key) (string, error) {
	var c certificate
	if err := json.Unmarshal(data, &c); err != nil {
		return "", err
	}
	text, err := readNote(c.Note, k)
	if err != nil {
		return "", fmt.Errorf("the note: %w", err)
	}
	q, at := strconv.Quote, func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	want := fmt.Sprintf("%s\nerased %s\nkey %s\nfingerprint %s\ncreated %s\nlsn %d\ntime %s\nactor %s\nreason %s\nticket %s\n"+
		"events %d\nfrom %d\nremains %s", c.Log, q(c.Subject), c.Key, c.Fingerprint, at(c.Created), c.LSN, at(c.Time), q(c.Actor),
		q(c.Reason), q(c.Ticket), c.Events, c.From, q(c.Remains))
	if text != want {
		return "", errors.New("the note says something else than the certificate")
	}
	what := fmt.Sprintf("the key %s of %s was destroyed, LSN %d of %s, %s", c.Key, q(c.Subject), c.LSN, c.Log, at(c.Time))
	if c.Proof == nil {
		return what + ", without proof that the event is in the log", nil
	}
	id, err := strconv.ParseUint(c.Key, 16, 64)
	part := binary.AppendUvarint(nil, id)
	part = append([]byte{9<<1 | 1, byte(len(part))}, part...)
	if e := &c.Proof.Event; err != nil || e.Op != 28 || e.LSN != c.LSN || !bytes.HasSuffix(e.Parts, part) ||
		!strings.HasPrefix(c.Proof.Head, c.Log+"\n") {
		return "", errors.New("the proof is of another event")
	}
	if _, err := inclusion(c.Proof, k); err != nil {
		return "", fmt.Errorf("the proof: %w", err)
	}
	return what + ", and the event is in the log", nil
}
