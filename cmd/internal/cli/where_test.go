package cli

import "testing"

func TestWhere(t *testing.T) {
	const value = `{"n": 10, "big": 12345678901234567890, "name": "Anna", "ok": true, "none": null, "in": {"list": [1, {"x": "y"}]}}`
	for expr, want := range map[string]bool{
		"n = 10": true, "n=10.0": true, "n != 10": false, "n > 9.5": true, "n >= 10": true, "n < 10": false, "n <= 9": false,
		"big = 12345678901234567890": true, "name = Anna": true, `name = "Anna"`: true, "name > A": true, "name < A": false,
		"name = 10": false, "name != 10": true, "ok = true": true, "ok = false": false, "ok > false": false, "none = null": true,
		"none != null": false, "in.list.0 = 1": true, "in.list.1.x = y": true, "in.list.2 = 1": false, "in.list.2 != 1": true,
		"in.list.x = 1": false, "absent = null": false, "absent != 1": true, "n.deep = 1": false, "in = 1": false, "in != 1": true,
	} {
		c, ok := parseCondition(expr)
		if !ok {
			t.Errorf("%q is no condition", expr)
			continue
		}
		if got := (Where{c}).Holds([]byte(value)); got != want {
			t.Errorf("%s holds: %t, want %t", expr, got, want)
		}
	}
	for _, expr := range []string{"", "n", "= 1", "n =", "n ! 1", "a..b = 1", ".a = 1", "n = {}", "n = [1]"} {
		if c, ok := parseCondition(expr); ok {
			t.Errorf("%q is a condition: %+v", expr, c)
		}
	}
	whole, _ := parseCondition(". = text")
	if !(Where{whole}).Holds([]byte("text")) || (Where{whole}).Holds([]byte("other")) || !(Where)(nil).Holds(nil) {
		t.Error("a value that is no JSON is text")
	}
}
