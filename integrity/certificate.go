package integrity

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/dyngodb/dyngo/event"
)

// CertificateFormat is the format of certificates. A change of what they mean takes a new name.
const CertificateFormat = "dyngo-erasure-1"

// Certificate states that a subject was erased: the key that all its values in a log are encrypted under was destroyed, so that
// they can't be read any more, in the log and in every copy of it. As JSON it can be checked with nothing else at hand, see
// docs/verifier.
type Certificate struct {
	Format      string    `json:"format"`
	Log         string    `json:"log"` // that has the event, see Origin
	Subject     string    `json:"subject"`
	Key         string    `json:"key"`         // id of the key, as events name it, 16 hexadecimal digits
	Fingerprint string    `json:"fingerprint"` // of the key, 32 hexadecimal digits
	Created     time.Time `json:"created"`     // the key
	LSN         event.LSN `json:"lsn"`         // of the event that says that the key was destroyed
	Time        time.Time `json:"time"`        // when it was
	Actor       string    `json:"actor,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Ticket      string    `json:"ticket,omitempty"`
	Events      int64     `json:"events"` // values that were written under the key,
	From        event.LSN `json:"from"`   // as counted in the log from this LSN on; 0 = they were not counted
	// Remains says what could still hold a copy of the key.
	Remains string     `json:"remains"`
	Proof   *Inclusion `json:"proof,omitempty"` // that the event is in the log
	// Note is what the certificate says as a text, signed; without signature if there was no key.
	Note string `json:"note"`
}

// Text is the statement that is signed: a line for each fact.
func (c *Certificate) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nerased %s\nkey %s\nfingerprint %s\ncreated %s\nlsn %d\ntime %s\n", c.Log, strconv.Quote(c.Subject), c.Key,
		c.Fingerprint, c.Created.UTC().Format(time.RFC3339Nano), c.LSN, c.Time.UTC().Format(time.RFC3339Nano))
	fmt.Fprintf(&b, "actor %s\nreason %s\nticket %s\nevents %d\nfrom %d\n", strconv.Quote(c.Actor), strconv.Quote(c.Reason),
		strconv.Quote(c.Ticket), c.Events, c.From)
	fmt.Fprintf(&b, "remains %s\n", strconv.Quote(c.Remains))
	return b.String()
}

// Sign completes the certificate, and signs it if the key can.
func (c *Certificate) Sign(k *Key) (err error) {
	c.Format = CertificateFormat
	c.Remains = fmt.Sprintf("copies of the folder of keys that were made from %s to %s, as backups of it; the memory of processes "+
		"that have used the key, until they end", c.Created.UTC().Format(time.RFC3339), c.Time.UTC().Format(time.RFC3339))
	c.Note, err = k.sign(c.Text())
	return err
}

// Proves says whether the proof, which is there, is of the event that the certificate is about.
func (c *Certificate) Proves() bool {
	e := &c.Proof.Event
	id, _ := event.SubjectKey(e.Parts)
	return e.Op == event.OpKeyDestroyed && e.LSN == c.LSN && fmt.Sprintf("%016x", id) == c.Key
}

// Check says whether the note is what the certificate says and the proof is of the event. With a key, the note must be signed
// with it; without, signatures are not looked at.
func (c *Certificate) Check(k *Key) error {
	switch {
	case c.Format != CertificateFormat:
		return fmt.Errorf("certificate: format %q, want %q", c.Format, CertificateFormat)
	case !strings.HasPrefix(c.Note, c.Text()+"\n"):
		return errors.New("certificate: the note says something else")
	}
	if k != nil {
		if n, err := note.Open([]byte(c.Note), note.VerifierList(k.verifier)); err != nil {
			return fmt.Errorf("certificate: not signed with the key %s: %w", k.public, err)
		} else if n.Text != c.Text() {
			return errors.New("certificate: another text is signed")
		}
	}
	if c.Proof == nil {
		return nil
	}
	if !c.Proves() {
		return errors.New("certificate: the proof is of another event")
	}
	if !strings.HasPrefix(c.Proof.Head, c.Log+"\n") {
		return errors.New("certificate: the proof is of another log")
	}
	if err := c.Proof.Check(k); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	return nil
}
