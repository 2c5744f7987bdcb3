package memtable

// Metrics are figures of a table, taken shard by shard while writers go on.
type Metrics struct {
	Keys       int64 // distinct keys in memory, deleted ones included
	Versions   int64 // versions in memory; a rise without more keys calls for Leave
	Shards     int64 // parts that the index is divided into
	Slots      int64 // slots of all tables; Keys/Slots below 0.1 for long means that many keys share few shards
	DeadSlots  int64 // slots of keys that have left; new keys take them, or they go with the next table of the shard
	IndexBytes int64 // memory of all slots, including tables that drain or are being made ready
	Draining   int64 // shards that move to another table
	Moves      int64 // such moves that have begun; many for the keys that come and go mean that tables grow and shrink in turn
	LongestNs  int64 // that a writer waited at most for a step of such a move
	Pending    int64 // records from recovery that are not inserted yet
	ListBytes  int64 // memory of lists: records from recovery, and keys that are not sorted yet

	OrderedDatasets int64 // datasets kept in key order
	SortedKeys      int64 // entries of their runs
	UnsortedKeys    int64 // keys that the next scan or the background has to sort
	Runs            int64 // more than some eight per dataset for long means that merging does not keep up
	RunBytes        int64 // memory of the runs

	Departures  int64 // calls of Leave
	LeftRecords int64 // versions that have left
	LeftKeys    int64 // keys that have left, each as often as it did

}

// Metrics returns the table's figures. It takes each shard's lock for a moment.
func (t *Table) Metrics() Metrics {
	m := Metrics{Shards: shardCount, Pending: t.pendingCount.Load()}
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
		} else {
			m.DeadSlots += int64(max(0, s.used-s.keys))
		}
		m.Moves += s.moves
		m.LongestNs = max(m.LongestNs, s.longest)
		m.IndexBytes += int64(cap(s.ready))
		m.ListBytes += s.pending.bytes()
		s.mu.Unlock()
	}
	m.IndexBytes += m.Slots * slotBytes
	for _, od := range t.order.all() {
		m.OrderedDatasets++
		m.UnsortedKeys += od.uncollected.Load()
		od.freshMu.Lock()
		m.ListBytes += od.fresh.bytes()
		od.freshMu.Unlock()
		for _, r := range od.runs.Load().runs {
			m.Runs++
			m.SortedKeys += int64(len(r.es))
			m.RunBytes += int64(cap(r.mem))
		}
	}
	l := &t.leave
	m.Departures, m.LeftRecords, m.LeftKeys = int64(l.departures.Load()), l.records.Load(), l.keys.Load()
	m.Versions -= m.LeftRecords
	return m
}

// Bytes is the memory of slots, runs and lists. What waits for readers to leave is not in it.
func (m Metrics) Bytes() int64 { return m.IndexBytes + m.RunBytes + m.ListBytes }
