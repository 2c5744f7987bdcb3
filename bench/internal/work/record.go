package work

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A record is a map of 100 fields, 50 doubles and 50 strings, as a service would store it: a header
// of key number, version and field count, then per field its name, its type and its value.
const (
	recordHeader  = 8 + 8 + 4
	recordFields  = 100
	recordString  = 2026 // bytes of each string, so that a record has about 102,800
	fieldDouble   = 1
	fieldString   = 2
	fieldNameSize = len("field00")
	recordSize    = recordHeader +
		recordFields/2*(1+fieldNameSize+1+8) +
		recordFields/2*(1+fieldNameSize+1+4+recordString)
)

var fieldNames = func() (names [recordFields]string) {
	for i := range names {
		names[i] = fmt.Sprintf("field%02d", i)
	}
	return names
}()

// appendRecord appends the encoded record of the given key and version to dst.
func appendRecord(dst []byte, number, version uint64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, number)
	dst = binary.LittleEndian.AppendUint64(dst, version)
	dst = binary.LittleEndian.AppendUint32(dst, recordFields)
	r := rng(number*golden + version)
	for i, name := range fieldNames {
		dst = append(dst, byte(len(name)))
		dst = append(dst, name...)
		x := r.next()
		if i%2 == 0 {
			dst = append(dst, fieldDouble)
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(x>>11)/(1<<53)))
			continue
		}
		at := int(x>>32) % (len(noise) - recordString)
		dst = append(dst, fieldString)
		dst = binary.LittleEndian.AppendUint32(dst, recordString)
		dst = append(dst, noise[at:at+recordString]...)
	}
	return dst
}

// checkRecord walks all fields of an encoded record, as a reader that decodes it would, and compares
// the doubles and the first byte of each string with what the key and version ask for.
func checkRecord(b []byte, number uint64) error {
	if len(b) != recordSize || binary.LittleEndian.Uint64(b) != number {
		return fmt.Errorf("wrong record for key %d: %d bytes, want %d", number, len(b), recordSize)
	}
	r := rng(number*golden + binary.LittleEndian.Uint64(b[8:]))
	p := b[recordHeader:]
	for i, name := range fieldNames {
		n := int(p[0])
		x := r.next()
		if n != len(name) || string(p[1:1+n]) != name {
			return fmt.Errorf("wrong record for key %d: field %d is not %s", number, i, name)
		}
		p = p[1+n:]
		kind := p[0]
		p = p[1:]
		switch {
		case kind == fieldDouble && i%2 == 0:
			if math.Float64frombits(binary.LittleEndian.Uint64(p)) != float64(x>>11)/(1<<53) {
				return fmt.Errorf("wrong record for key %d: value of %s", number, name)
			}
			p = p[8:]
		case kind == fieldString && i%2 == 1:
			at := int(x>>32) % (len(noise) - recordString)
			if binary.LittleEndian.Uint32(p) != recordString || p[4] != noise[at] {
				return fmt.Errorf("wrong record for key %d: value of %s", number, name)
			}
			p = p[4+recordString:]
		default:
			return fmt.Errorf("wrong record for key %d: %s has type %d", number, name, kind)
		}
	}
	return nil
}
