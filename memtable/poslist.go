package memtable

import (
	"unsafe"

	"github.com/dyngodb/dyngo/internal/offheap"
)

const (
	listBlockBytes = 4096
	listBlockWords = listBlockBytes / 8
)

// posList is a growing list of words outside Go's heap. It is not safe for concurrent use.
type posList struct {
	blocks [][]byte
	n      int // words in the list
}

func (l *posList) add(w uint64) {
	at := l.n % listBlockWords
	if at == 0 {
		l.blocks = append(l.blocks, offheap.Alloc(listBlockBytes))
	}
	words(l.blocks[len(l.blocks)-1])[at] = w
	l.n++
}

func (l *posList) at(i int) uint64 { return words(l.blocks[i/listBlockWords])[i%listBlockWords] }

// free gives the memory back and empties the list.
func (l *posList) free() {
	for _, b := range l.blocks {
		offheap.Free(b)
	}
	*l = posList{}
}

func words(b []byte) *[listBlockWords]uint64 {
	return (*[listBlockWords]uint64)(unsafe.Pointer(unsafe.SliceData(b)))
}
