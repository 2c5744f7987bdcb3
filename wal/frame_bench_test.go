package wal

import "testing"

// BenchmarkFrameCRC is what a frame costs beyond its body.
func BenchmarkFrameCRC(b *testing.B) {
	h, salt := make([]byte, FrameHeaderSize), new([32]byte)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i += 8 {
		frameCRC(1, h, salt, 5, i)
	}
}
