// Package rows reads the rows of a data file one at a time: a JSON array, a sequence of JSON values, JSON lines, the
// features of a GeoJSON collection, or CSV. It also takes a key and a version time out of a row.
//
// It promises: memory stays bounded by the longest row allowed (Options.MaxRowBytes), whatever the file's size. A JSON
// row keeps the bytes it came in, from its first to its last character: number spelling, field order, white space and
// line breaks inside it. A CSV row becomes a JSON object of strings in header order. A row that cannot be used is
// returned as *BadRow with its line, and reading goes on behind it; only when the file's structure is lost does reading
// end, with *Broken. Reading can go on later from a Position, which refuses a file that has changed before it.
//
// It does not promise a stable API: it serves dyngo-cli.
//
// # How reading goes on behind damage
//
//   - JSON lines: at the next line.
//   - CSV: at the line after the one on which the bad row began.
//   - JSON and GeoJSON: behind the row when its brackets can be matched; otherwise at the next line that starts like the
//     row did, with the same indentation and an opening brace. A row that shares its line with another has no such
//     place, and the file ends there as *Broken.
//
// A Reader is for one goroutine.
package rows
