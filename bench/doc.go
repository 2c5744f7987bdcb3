// Command bench measures DynGO beside Pebble, Badger and bbolt.
//
//	go run . run --quick --out results/try
//	go run . run --full --suite durable,get --engines dyngo,pebble --out results/some
//	go run . render results/try
//
// Each measurement runs in a process of its own (this program again, as "worker"): it reads one
// case as JSON on standard input and answers with one line of JSON. Rounds are interleaved: engine
// A, B, C, D, then A again, so that what disturbs the machine for a while disturbs all. A result is
// a folder with results.json, which holds everything that was measured, and what is made from it:
// report.md and charts. See README.md.
package main
