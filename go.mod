module github.com/dyngodb/dyngo

go 1.26.0

// What the engine is made of.
require (
	github.com/google/btree v1.1.3 // hot ranges: leaves by their first key
	github.com/klauspost/compress v1.20.3 // s2 and zstd for values and blocks
	github.com/zeebo/xxh3 v1.1.0 // seeded 64-bit hash of keys in filters: the same on all machines, unlike hash/maphash
	golang.org/x/mod v0.43.0 // sumdb: the tree over the log and its signed heads
	golang.org/x/sys v0.49.0 // mmap, flock, fdatasync
)

// What dyngo-cli is made of.
require (
	github.com/spf13/cobra v1.10.2 // commands, completion
	github.com/spf13/pflag v1.0.10 // flags
	golang.org/x/term v0.47.0 // is it a terminal, and how wide
)

// What only tests use.
require (
	github.com/cockroachdb/datadriven v1.0.3 // scripts of what a log can look like
	github.com/rogpeppe/go-internal v1.16.0 // testscript: scripts of commands
	go.uber.org/goleak v1.3.0 // no goroutine outlives a test
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/cpuid/v2 v2.2.10 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
)
