package event

import (
	"math"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Dictionary is what the first frame of each log file repeats, so that the file can be read alone: everything live that
// events refer to by a number. It is sorted by id and holds each id once.
type Dictionary struct {
	Sessions    []Session
	Datasets    []DatasetInfo
	Merges      []MergeFunc
	Keys        []KeyInfo
	NextSession SessionID // smallest id never used, ≥ 1
	NextDataset DatasetID // smallest id never used, ≥ 1
}

// DatasetInfo describes a dataset.
type DatasetInfo struct {
	ID      DatasetID // ≥ 1
	Created LSN       // of the event that created it
	Name    string    // not empty
	Options []byte    // encoded DatasetOptions
}

// MergeFunc names a merge function.
type MergeFunc struct {
	ID   uint64
	Name string // not empty
}

// KeyInfo describes an encryption key without holding it.
type KeyInfo struct {
	ID   uint64
	Info []byte // opaque
}

// Kinds of entries. Never renumber. From entrySkippable on, a reader may skip those that it does not know.
const (
	entrySession = 1
	entryDataset = 2
	entryMerge   = 3
	entryKey     = 4
	entryNextIDs = 5

	entrySkippable = 0x80
)

// AppendDictionary appends the encoding of d.
func AppendDictionary(dst []byte, d *Dictionary) []byte {
	dst = coding.AppendUvarint(dst, uint64(len(d.Sessions)+len(d.Datasets)+len(d.Merges)+len(d.Keys)+1))
	var b []byte
	entry := func(kind byte) { dst = coding.AppendBytes(append(dst, kind), b) }
	for _, s := range d.Sessions {
		b = AppendSession(b[:0], s)
		entry(entrySession)
	}
	for _, s := range d.Datasets {
		b = coding.AppendUvarint(coding.AppendUvarint(b[:0], uint64(s.ID)), uint64(s.Created))
		b = coding.AppendBytes(coding.AppendBytes(b, s.Name), s.Options)
		entry(entryDataset)
	}
	for _, m := range d.Merges {
		b = coding.AppendBytes(coding.AppendUvarint(b[:0], m.ID), m.Name)
		entry(entryMerge)
	}
	for _, k := range d.Keys {
		b = coding.AppendBytes(coding.AppendUvarint(b[:0], k.ID), k.Info)
		entry(entryKey)
	}
	b = coding.AppendUvarint(coding.AppendUvarint(b[:0], uint64(d.NextSession)), uint64(d.NextDataset))
	entry(entryNextIDs)
	return dst
}

// ParseDictionary decodes a Dictionary, which must be all of b. It holds copies. The error is ErrUnsupported or corruption
// with an offset in b.
func ParseDictionary(b []byte) (*Dictionary, error) {
	r := coding.NewReader(b)
	d := &Dictionary{}
	p := dictionaryParser{d: d}
	for range r.Count(2) {
		kind := r.Byte()
		body := r.Bytes()
		if r.Err() != nil {
			break
		}
		if err := p.entry(kind, body); err != nil {
			return nil, corruption.Shift(err, r.Offset()-len(body))
		}
	}
	if r.End() != nil {
		return nil, corruptIn("dictionary", &r)
	}
	if d.NextSession == 0 {
		return nil, corrupt(0, "dictionary: no next ids")
	}
	return d, nil
}

// dictionaryParser keeps what is needed to see that entries are in order.
type dictionaryParser struct {
	d    *Dictionary
	kind byte
	id   uint64
}

func (p *dictionaryParser) entry(kind byte, body []byte) error {
	if kind < p.kind || kind == 0 {
		return corrupt(0, "dictionary: entry of kind %d after %d", kind, p.kind)
	}
	if kind >= entrySkippable {
		p.kind = kind
		return nil
	}
	if kind > entryNextIDs {
		return Unsupported("dictionary entry of kind %d", kind)
	}
	r := coding.NewReader(body)
	id, err := p.known(kind, &r, body)
	if err == nil && r.End() != nil {
		err = corruptIn("dictionary entry", &r)
	}
	if err == nil && kind == p.kind && id <= p.id {
		err = corrupt(0, "dictionary: id %d of kind %d after %d", id, kind, p.id)
	}
	p.kind, p.id = kind, id
	return err
}

// known reads the body of an entry of a known kind and returns the id in it.
func (p *dictionaryParser) known(kind byte, r *coding.Reader, body []byte) (id uint64, err error) {
	d := p.d
	switch kind {
	case entrySession:
		s, err := ParseSession(r.Next(uint64(len(body))))
		d.Sessions = append(d.Sessions, s)
		return uint64(s.ID), err
	case entryDataset:
		id = r.Uvarint()
		s := DatasetInfo{ID: DatasetID(id), Created: LSN(r.Uvarint()), Name: string(r.Bytes())}
		at := r.Offset()
		s.Options = append([]byte(nil), r.Bytes()...)
		if r.Err() != nil {
			return id, nil
		}
		if id == 0 || id > math.MaxUint32 || s.Created > MaxLSN || s.Name == "" || len(s.Name) > MaxKeyBytes {
			return id, corrupt(0, "dictionary: dataset %d %q of LSN %d", id, s.Name, s.Created)
		}
		if _, err := ParseDatasetOptions(s.Options); err != nil {
			return id, corruption.Shift(err, at)
		}
		d.Datasets = append(d.Datasets, s)
	case entryMerge:
		id = r.Uvarint()
		m := MergeFunc{ID: id, Name: string(r.Bytes())}
		if r.Err() == nil && m.Name == "" {
			return id, corrupt(0, "dictionary: merge function %d without a name", id)
		}
		d.Merges = append(d.Merges, m)
	case entryKey:
		id = r.Uvarint()
		d.Keys = append(d.Keys, KeyInfo{ID: id, Info: append([]byte(nil), r.Bytes()...)})
	case entryNextIDs:
		return 0, p.nextIDs(r)
	}
	return id, nil
}

func (p *dictionaryParser) nextIDs(r *coding.Reader) error {
	d := p.d
	session, dataset := r.Uvarint(), r.Uvarint()
	if r.Err() != nil {
		return nil
	}
	if session == 0 || dataset == 0 || dataset > math.MaxUint32 {
		return corrupt(0, "dictionary: next session %d, next dataset %d", session, dataset)
	}
	if n := len(d.Sessions); n > 0 && uint64(d.Sessions[n-1].ID) >= session {
		return corrupt(0, "dictionary: session %d, but the next is %d", d.Sessions[n-1].ID, session)
	}
	if n := len(d.Datasets); n > 0 && uint64(d.Datasets[n-1].ID) >= dataset {
		return corrupt(0, "dictionary: dataset %d, but the next is %d", d.Datasets[n-1].ID, dataset)
	}
	d.NextSession, d.NextDataset = SessionID(session), DatasetID(dataset)
	return nil
}
