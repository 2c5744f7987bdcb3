// Package memtable finds the records of the log's tail by key, and puts them in order when a scan asks.
package memtable
