//go:build !cgo

package engine

// cgo decides where Pebble keeps its cache and memtables.
const cgo = "built without cgo (cache and memtables in Go's heap)"
