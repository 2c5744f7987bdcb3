// Package wal is the durable ordered log of events: its files, its writer and its readers.
package wal
