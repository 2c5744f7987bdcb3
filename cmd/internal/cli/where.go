package cli

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// Where is conditions on a JSON value, all of which must hold. None hold for every value.
type Where []condition

// condition compares a field with a literal.
type condition struct {
	path []string // into objects and arrays; empty = the value itself
	op   string
	want any // string, json.Number, bool or nil
}

// AddWhere gives cmd the flag for conditions on JSON values.
func AddWhere(cmd *cobra.Command) func() (Where, error) {
	return AddConditions(cmd, "where", "`condition` on JSON values, as 'a.b >= 10'; several must all hold")
}

// AddConditions is AddWhere with a flag of another name.
func AddConditions(cmd *cobra.Command, name, usage string) func() (Where, error) {
	exprs := cmd.Flags().StringArray(name, nil, usage)
	return func() (Where, error) {
		var w Where
		for _, e := range *exprs {
			c, ok := parseCondition(e)
			if !ok {
				return nil, Usage(whereForms, "--%s: %q is no condition", name, e)
			}
			w = append(w, c)
		}
		return w, nil
	}
}

const whereForms = `FIELD OPERATOR VALUE, as 'total > 1000', 'address.city = "Bonn"' or '. != null'; ` +
	"operators are = != < <= > >="

// whereOps are the operators, the longer ones first.
var whereOps = []string{"!=", "<=", ">=", "=", "<", ">"}

// parseCondition reads FIELD OPERATOR VALUE. A value that is no JSON is text.
func parseCondition(s string) (condition, bool) {
	at := strings.IndexAny(s, "=!<>")
	if at < 0 {
		return condition{}, false
	}
	c := condition{}
	for _, op := range whereOps {
		if strings.HasPrefix(s[at:], op) {
			c.op = op
			break
		}
	}
	field, value := strings.TrimSpace(s[:at]), strings.TrimSpace(s[at+len(c.op):])
	if c.op == "" || field == "" || value == "" {
		return condition{}, false
	}
	if field != "." {
		c.path = strings.Split(field, ".")
		if slices.Contains(c.path, "") {
			return condition{}, false
		}
	}
	var ok bool
	if c.want, ok = parseJSON([]byte(value)); !ok {
		c.want = value
	}
	switch c.want.(type) {
	case map[string]any, []any:
		return condition{}, false
	}
	return c, true
}

func parseJSON(b []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return v, d.Decode(&v) == nil && !d.More()
}

// Holds says whether a value meets all conditions. Bytes that are no JSON are text.
func (w Where) Holds(value []byte) bool {
	if len(w) == 0 {
		return true
	}
	v, ok := parseJSON(value)
	if !ok {
		v = string(value)
	}
	for _, c := range w {
		if !c.holds(v) {
			return false
		}
	}
	return true
}

// holds looks the field up. One that is not there meets only !=.
func (c *condition) holds(v any) bool {
	for _, name := range c.path {
		switch in := v.(type) {
		case map[string]any:
			if v = in[name]; v == nil {
				if _, ok := in[name]; !ok {
					return c.op == "!="
				}
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(in) {
				return c.op == "!="
			}
			v = in[i]
		default:
			return c.op == "!="
		}
	}
	order, comparable := compareJSON(v, c.want)
	switch c.op {
	case "=":
		return comparable && order == 0
	case "!=":
		return !comparable || order != 0
	case "<":
		return comparable && order < 0
	case "<=":
		return comparable && order <= 0
	case ">":
		return comparable && order > 0
	}
	return comparable && order >= 0
}

// compareJSON orders two numbers or two strings; others are equal or not comparable. Numbers are compared as 64-bit floats
// unless they are spelled the same.
func compareJSON(a, b any) (order int, ok bool) {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return 0, false
		}
		if a == b {
			return 0, true
		}
		x, err := a.Float64()
		y, err2 := b.Float64()
		switch {
		case err != nil || err2 != nil:
			return 0, false
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, true
	case string:
		b, ok := b.(string)
		return strings.Compare(a, b), ok
	case bool:
		b, ok := b.(bool)
		return 0, ok && a == b
	case nil:
		return 0, b == nil
	}
	return 0, false
}
