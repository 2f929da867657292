package main

import (
	"bytes"
	"os"
	"testing"
)

// The structs that are committed are those of the definitions.
func TestUpToDate(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../types_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("types_gen.go is not what the definitions make: run go generate ./msgs")
	}
}
