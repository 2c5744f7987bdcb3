package memtable

// Metrics are figures of a table, taken shard by shard while writers go on.
type Metrics struct {
	Keys       int64 // distinct keys, deleted ones included; they stay until the table goes
	Versions   int64 // versions that chains lead to; a rise without more keys calls for Evict
	Slots      int64 // slots of all tables; Keys/Slots below 0.3 for long means that many keys share few shards
	IndexBytes int64 // memory of all slots, including tables that drain or are being made ready
	Draining   int64 // shards that move to a larger table
	Pending    int64 // records from recovery that are not inserted yet
}

// Metrics returns the table's figures. It takes each shard's lock for a moment.
func (t *Table) Metrics() Metrics {
	m := Metrics{Pending: t.pendingCount.Load()}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		st := t.states[i].Load()
		m.Keys += int64(s.keys)
		m.Versions += s.taken
		if st.cur.mask >= minSlots-1 {
			m.Slots += int64(st.cur.count())
		}
		if st.old.mask != 0 {
			m.Slots += int64(st.old.count())
			m.Draining++
		}
		m.IndexBytes += int64(cap(s.ready))
		s.mu.Unlock()
	}
	m.IndexBytes += m.Slots * slotBytes
	return m
}
