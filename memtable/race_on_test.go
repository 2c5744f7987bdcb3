//go:build race

package memtable

const raceEnabled = true // memory is Go's then, and larger
