package vfs

// WriteAgain writes the bytes of f from from to to over themselves; to = 0 means the end of the file. A Sync after it makes them durable
// also if an earlier one has failed, by another process too: the system may hold bytes that it could not write for written, show them,
// and leave them out of every later sync. See Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020.
//
// Where there is no space to write, as on a file system that writes nothing in place, it does nothing.
func WriteAgain(f File, from, to int64) error {
	if to == 0 {
		var err error
		if to, err = f.Size(); err != nil {
			return err
		}
	}
	buf := make([]byte, max(min(to-from, 1<<20), 0))
	for from < to {
		b := buf[:min(to-from, int64(len(buf)))]
		if _, err := f.ReadAt(b, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, from); IsNoSpace(err) {
			return nil
		} else if err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}
