package memtable

import (
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

type order struct{}

func (o *order) start(t *Table)                     {}
func (o *order) close()                             {}
func (o *order) add(ds event.DatasetID, p tail.Pos) {}

type evictor struct{}

func (e *evictor) init(t *Table) {}
