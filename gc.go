package dyngo

import (
	"context"
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/wal"
)

// GCPlan says what retention drops and why the rest stays.
type GCPlan struct {
	// FloorLSN is the LSN up to which events are gone when it is done.
	FloorLSN LSN
	// RemoveBytes is what goes, MoveBytes what of it is written to value files again: large values that are current. GCPlan
	// does not know of those that only history will need, and of the history to be written.
	RemoveBytes, MoveBytes int64
	// Files are the log files, oldest first, then the value files, then history and segments.
	Files []GCFile
	// Holds are what keeps log files or versions; see DB.Holds.
	Holds []Hold
}

// GCFile is one file in a GCPlan.
type GCFile struct {
	File              string // relative to the store's directory
	Kind              string // log, values, history or segment
	Bytes             int64
	FirstLSN, LastLSN LSN    // of its events; the newest log file goes on; a value file has none
	Remove            bool   // it goes, or has gone
	Reason            string // why it goes or stays; for people
}

// GCPlan tells what GC would drop now, and why each other file stays. It changes nothing; segments with large values are read
// once. Of a read-only store it tells what the files say: a process that has it open may hold more.
func (db *DB) GCPlan(ctx context.Context) (GCPlan, error) {
	g := db.calls.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return GCPlan{}, ErrClosed
	}
	db.retention.hurry(1)
	defer db.retention.hurry(-1)
	plan, _, err := db.retention.pass(ctx, true)
	return plan, openError(db.dir, err)
}

// GC drops now what Options.Retention no longer wants, and returns what it did. The background does the same by itself;
// nobody has to call it.
func (db *DB) GC(ctx context.Context) (GCPlan, error) {
	g, err := db.enterCall()
	if err != nil {
		return GCPlan{}, err
	}
	defer g.Exit()
	db.retention.hurry(1)
	defer db.retention.hurry(-1)
	plan, more, err := db.retention.pass(ctx, false)
	for more && err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		before := plan
		plan, more, err = db.retention.pass(ctx, false)
		plan.after(&before)
	}
	return plan, openError(db.dir, err)
}

// after takes in what an earlier pass has removed.
func (p *GCPlan) after(before *GCPlan) {
	p.RemoveBytes, p.MoveBytes, p.FloorLSN = p.RemoveBytes+before.RemoveBytes, p.MoveBytes+before.MoveBytes, max(p.FloorLSN, before.FloorLSN)
	gone := slices.DeleteFunc(before.Files, func(f GCFile) bool { return !f.Remove })
	p.Files = append(gone, p.Files...)
	kinds := []string{"log", "values", "history", "segment"} // in which they are listed
	slices.SortStableFunc(p.Files, func(a, b GCFile) int { return slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind) })
}

// base lists the files as they are.
func (r *retention) base(s *sources, files []wal.FileInfo) GCPlan {
	p := GCPlan{FloorLSN: s.version.FloorLSN, Holds: r.db.Holds()}
	for i, f := range files {
		last := r.db.LSN()
		if i+1 < len(files) {
			last = files[i+1].FirstLSN - 1
		}
		p.Files = append(p.Files, GCFile{File: "wal/" + f.Name, Kind: "log", Bytes: f.Size, FirstLSN: f.FirstLSN, LastLSN: last})
	}
	for _, v := range s.version.Values {
		p.Files = append(p.Files, GCFile{File: valueDisplayName(v.Num), Kind: "values", Bytes: v.SizeBytes})
	}
	for _, seg := range s.version.History {
		p.Files = append(p.Files, GCFile{
			File: segmentDisplayName(seg.Num), Kind: "history", Bytes: seg.SizeBytes, FirstLSN: seg.MinLSN, LastLSN: seg.MaxLSN,
			Reason: fmt.Sprintf("it holds %d versions that were current at the floor and were overwritten since", seg.Entries),
		})
	}
	for seg := range s.version.All() {
		p.Files = append(p.Files, GCFile{
			File: segmentDisplayName(seg.Num), Kind: "segment", Bytes: seg.SizeBytes, FirstLSN: seg.MinLSN, LastLSN: seg.MaxLSN,
			Reason: fmt.Sprintf("it holds %d versions; merges drop what nobody can see", seg.Entries),
		})
	}
	return p
}
