package event_test

import (
	"fmt"

	"github.com/dyngodb/dyngo/event"
)

func ExampleParseWire() {
	parts := event.AppendAnnotations(nil, []event.Annotation{{Key: "reason", Value: "import"}})
	payload := event.AppendPayload(nil, 1, []byte("key"), []byte("value"), parts)
	wire := event.AppendWire(nil, event.OpPut, 0, 7, 1500, payload)

	e, _, n, err := event.ParseWire(wire)
	if err != nil {
		fmt.Println(err)
		return
	}
	reason, _ := event.FindAnnotation(e.Parts, "reason")
	fmt.Printf("%d bytes: %s %q = %q in dataset %d after %d ns, because of %q\n", n, e.Op, e.Key, e.Value, e.Dataset,
		e.Time, reason)
	// Output: 34 bytes: put "key" = "value" in dataset 7 after 1500 ns, because of "import"
}
