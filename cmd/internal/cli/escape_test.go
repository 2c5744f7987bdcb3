package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"
)

func TestEscapeBytes(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"text", "alice", "alice"},
		{"empty", "", ""},
		{"not ASCII", "Müller 東京", "Müller 東京"},
		{"zero byte", "a\x00b", `a\x00b`},
		{"line end", "a\nb", `a\x0ab`},
		{"DEL", "\x7f", `\x7f`},
		{"C1 control", "\u0085", `\xc2\x85`},
		{"escape sequence of a terminal", "\x1b[2J", `\x1b[2J`},
		{"invalid UTF-8", "\xff\xfe", `\xff\xfe`},
		{"truncated rune", "\xe6\x9d", `\xe6\x9d`},
		{"text that reorders", "a\u202eb", `a\xe2\x80\xaeb`},
		{"backslash", `C:\dir`, `C:\dir`},
		{"what looks like an escape", `\x41`, `\x5cx41`},
		{"what almost does", `\xg1 \x4`, `\x5cxg1 \x5cx4`},
		{"replacement character itself", "\ufffd", "\ufffd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := EscapeBytes([]byte(c.in))
			if got != c.want {
				t.Errorf("escapeBytes(%q) = %s, want %s", c.in, got, c.want)
			}
		})
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", `\x41`, `\\x41`, `\x`, `\x5cx41`, "\xff\\x00", "é\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		escaped := EscapeBytes(b)
		if !plainText([]byte(escaped)) {
			t.Fatalf("escapeBytes(%q) = %q is not printable", b, escaped)
		}
		if back, err := unescapeBytes(escaped); err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%q came back as %q by way of %s: %v", b, back, escaped, err)
		}
	})
}

func TestUnescapeRefuses(t *testing.T) {
	for _, s := range []string{`\x`, `\x4`, `a\xzz`, `\x4g`} {
		if b, err := unescapeBytes(s); err == nil {
			t.Errorf("unescapeBytes(%s) = %q, want an error", s, b)
		}
	}
}

func TestJSONValue(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"object", `{"b": 1, "a": [1, 2]}`, `{"b":1,"a":[1,2]}`},
		{"object over lines", "{\n \"a\": 1\n}\n", `{"a":1}`},
		{"number as it was written", "1.50e3", "1.50e3"},
		{"big number", "123456789012345678901234567890", "123456789012345678901234567890"},
		{"JSON string", `"x"`, `"x"`},
		{"text", "hello", `"hello"`},
		{"text with quotes and angle brackets", `<a href="x">`, `"<a href=\"x\">"`},
		{"text of lines", "a\nb\tc", `"a\nb\tc"`},
		{"empty", "", `""`},
		{"two JSON values are text", "1 2", `"1 2"`},
		{"control character", "a\x00", `{"$b64":"YQA="}`},
		{"invalid UTF-8", "\xff", `{"$b64":"/w=="}`},
		{"JSON with invalid UTF-8 inside", "\"\xff\"", `{"$b64":"Iv8i"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(AppendJSONValue([]byte("x"), []byte(c.in)))
			if got != "x"+c.want {
				t.Errorf("got %s, want x%s", got, c.want)
			}
		})
	}
}

func FuzzJSONValue(f *testing.F) {
	for _, s := range []string{"", "1", "{", "\x00", "\xff", `"\ud800"`, "é"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := AppendJSONValue(nil, b)
		if !json.Valid(out) || bytes.ContainsAny(out, "\n\r") {
			t.Fatalf("%q became %q", b, out)
		}
		var key any
		if err := json.Unmarshal(AppendJSONKey(nil, b), &key); err != nil {
			t.Fatal(err)
		}
		switch k := key.(type) {
		case string:
			if k != string(b) {
				t.Fatalf("key %q came back as %q", b, k)
			}
		case map[string]any:
			back, err := base64.StdEncoding.DecodeString(k["$b64"].(string))
			if err != nil || !bytes.Equal(back, b) {
				t.Fatalf("key %q came back as %q, %v", b, back, err)
			}
		}
	})
}
