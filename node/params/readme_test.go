package params

import (
	"os"
	"strings"
	"testing"
)

// The README promises to be true at every landing; its parameter table is this package's.
func TestReadmeTable(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(RenderMarkdown())); !strings.Contains(string(readme), want) {
		t.Errorf("the README's parameter table is not RenderMarkdown(); put this in its place:\n%s", want)
	}
}
