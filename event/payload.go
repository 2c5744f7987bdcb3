package event

import "github.com/dyngodb/dyngo/internal/coding"

// MaxPayloadOverhead is how much longer a payload can be than key, value and parts together.
const MaxPayloadOverhead = 3 * coding.MaxVarintLen

// PayloadSize returns the length of what AppendPayload appends.
func PayloadSize(session SessionID, key, value, parts []byte) int {
	return coding.UvarintLen(uint64(session)) + coding.UvarintLen(uint64(len(key))) + len(key) +
		coding.UvarintLen(uint64(len(value))) + len(value) + len(parts)
}

// AppendPayload appends the part of an event's encoding that is the same in memory and in the log: session, key, value
// and the encoded parts. It allocates nothing if dst has room.
func AppendPayload(dst []byte, session SessionID, key, value, parts []byte) []byte {
	dst = coding.AppendUvarint(dst, uint64(session))
	dst = coding.AppendUvarint(dst, uint64(len(key)))
	dst = append(dst, key...)
	dst = coding.AppendUvarint(dst, uint64(len(value)))
	dst = append(dst, value...)
	return append(dst, parts...)
}

// SplitPayload takes a payload apart. What it returns aliases p. The syntax of the parts is not checked. It allocates
// only for an error, which is corruption with an offset in p.
func SplitPayload(p []byte) (session SessionID, key, value, parts []byte, err error) {
	s, n := coding.Uvarint(p)
	if n <= 0 {
		return 0, nil, nil, nil, corrupt(0, "session: %v", coding.UvarintError(n))
	}
	keyLen, m := coding.Uvarint(p[n:])
	if m <= 0 || keyLen > uint64(len(p)-n-m) {
		return 0, nil, nil, nil, lengthError("key", n, m)
	}
	n += m
	key = p[n : n+int(keyLen) : n+int(keyLen)]
	n += int(keyLen)
	valueLen, m := coding.Uvarint(p[n:])
	if m <= 0 || valueLen > uint64(len(p)-n-m) {
		return 0, nil, nil, nil, lengthError("value", n, m)
	}
	n += m
	value = p[n : n+int(valueLen) : n+int(valueLen)]
	return SessionID(s), key, value, p[n+int(valueLen):], nil
}

func lengthError(what string, offset, n int) error {
	err := coding.UvarintError(n)
	if err == nil {
		err = coding.ErrShort
	}
	return corrupt(offset, "length of the %s: %v", what, err)
}
