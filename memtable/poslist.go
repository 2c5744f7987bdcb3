package memtable

import (
	"unsafe"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/tail"
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

// bytes returns the list's memory.
func (l *posList) bytes() int64 { return int64(len(l.blocks)) * listBlockBytes }

// free gives the memory back and empties the list.
func (l *posList) free() {
	for _, b := range l.blocks {
		offheap.Free(b)
	}
	*l = posList{}
}

// byDataset holds places of records, apart by dataset.
type byDataset map[event.DatasetID]*posList

func (m *byDataset) add(ds event.DatasetID, p tail.Pos) {
	l := (*m)[ds]
	if l == nil {
		if *m == nil {
			*m = make(byDataset)
		}
		l = &posList{}
		(*m)[ds] = l
	}
	l.add(uint64(p))
}

func words(b []byte) *[listBlockWords]uint64 {
	return (*[listBlockWords]uint64)(unsafe.Pointer(unsafe.SliceData(b)))
}
