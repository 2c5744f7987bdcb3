//go:build cgo

package engine

// cgo decides where Pebble keeps its cache and memtables.
const cgo = "built with cgo (cache and memtables outside of Go's heap)"
