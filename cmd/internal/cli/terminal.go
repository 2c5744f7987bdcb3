package cli

import (
	"os"
	"unicode"

	"golang.org/x/term"
)

// IsTerminal reports whether w (a stream of the program) goes to a person's terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// TerminalWidth returns the columns of the terminal behind w, 0 if w is none.
func TerminalWidth(w any) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return width
}

// TextWidth returns the terminal columns that s takes.
func TextWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth returns the columns of one rune: 0 for combining marks and joiners, 2 for East Asian
// wide characters and pictographs, else 1. It follows the blocks that terminals agree on.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, // Hangul initials
		r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, // CJK, kana, Yi
		r >= 0xac00 && r <= 0xd7a3,                // Hangul syllables
		r >= 0xf900 && r <= 0xfaff,                // CJK compatibility
		r >= 0xfe30 && r <= 0xfe6f,                // CJK forms
		r >= 0xff00 && r <= 0xff60,                // full width forms
		r >= 0xffe0 && r <= 0xffe6,                // full width signs
		r >= 0x1f300 && r <= 0x1f64f,              // pictographs
		r >= 0x1f680 && r <= 0x1f6ff,
		r >= 0x1f900 && r <= 0x1f9ff,
		r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// TruncateText shortens s to width columns, ending in … if anything was left out.
func TruncateText(s string, width int) string {
	if width <= 0 {
		return ""
	}
	n := 0
	for i, r := range s {
		n += runeWidth(r)
		if n > width {
			// Go back to the last place that leaves a column for the ellipsis.
			cut, n := 0, 0
			for j, q := range s[:i] {
				if n+runeWidth(q) > width-1 {
					break
				}
				n += runeWidth(q)
				cut = j + len(string(q))
			}
			return s[:cut] + "…"
		}
	}
	return s
}

// TerminalSize returns columns and rows of the terminal behind w, 80 and 24 if w is none.
func TerminalSize(w any) (width, height int) {
	if f, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}
