// Package cli is what the commands of DynGO have in common: persistent flags, exit codes and errors with advice, the renderer
// by which all data is printed, how stores are opened, and how keys, targets of the past and events of the log are read and
// shown.
//
// A program builds its tree of commands from a root that SetUpRoot prepared, and hands it to Main. It makes no promise of
// compatibility to Go code.
package cli
