// Package event holds the vocabulary of DynGO: the event, its LSN, and how both are spelled in bytes.
package event
