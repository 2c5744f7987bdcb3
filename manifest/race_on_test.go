//go:build race

package manifest

const raceEnabled = true // long tests without goroutines take larger steps then
