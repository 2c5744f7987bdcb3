package main

import (
	"slices"
	"testing"
)

func TestCompareFields(t *testing.T) {
	got := []string{"10", "b", "-", "2", "1b", "", "a", "1", "02"}
	slices.SortFunc(got, compareFields)
	if want := []string{"", "1", "02", "2", "10", "-", "1b", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
