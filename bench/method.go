package main

// method explains the columns, the same in every report.
const method = `
## How to read this

- Every measurement is a process of its own with a store of its own; rounds are interleaved over the engines, the
  order rotates from round to round, and a case begins when the disk stands still. Numbers are medians of the rounds.
- **Latency** is sampled: every durable put, one buffered put in 8, one get in 64, by the clock around the call.
- **CPU µs/op** is the processor time of the whole process (getrusage, user and system), background work and driver
  included, divided by operations. **allocs/op** is Go's count of allocations in the same way; what an engine takes
  outside of Go's heap does not show.
- **disk B/op** is what the disk reported as written (sectors, from /sys/dev/block) until all was durable, journal of the
  file system included, by whichever process: true where nothing else runs. **dirtied B/op** is write_bytes of
  /proc/self/io: pages that the process made dirty. That is the kernel's estimate of what it causes, and counts whole
  large folios where a few bytes of a file that was written before are written again, which overstates small appends
  to such files up to twentyfold, and leaves the journal out, which understates files that grow.
- **read B/op** is read_bytes of /proc/self/io, **reads/op** the requests that the whole disk had.
- **RSS** is the highest resident set since the measurement began (VmHWM), pages of mapped files included.
- "Best peer" is the best of Pebble, Badger and bbolt in that row. Machines are shared: ratios within one run count,
  not numbers of different runs. Processor time and allocations are the steadiest columns.
`
