package msgs

import (
	"fmt"
	"strings"

	"github.com/stllm/stllm/msgs/idl"
)

// Compatible tells whether a foreign version of a message type has the same bytes on the wire as the built-in one. The foreign
// version is a definition with those that it depends on, as bags carry it, or, where there is none, its MD5 sum (ROS 1) or
// type hash (ROS 2). With a definition, the error names the first field that differs. Bounds of strings and sequences, default
// values and constants may differ.
func Compatible(typ string, e Encoding, foreign string) error {
	set, key := Definitions(e), Key(typ)
	if _, ok := set.Spec(key); !ok {
		return fmt.Errorf("message type %s is not known in %s", typ, e)
	}
	switch foreign = strings.TrimSpace(foreign); {
	case e == ROS1 && isMD5(foreign):
		own, err := MD5(key)
		if err == nil && own != strings.ToLower(foreign) {
			err = fmt.Errorf("%s: MD5 sum %s, expected %s", key, foreign, own)
		}
		return err
	case e == CDR && strings.HasPrefix(foreign, "RIHS01_"):
		own, err := TypeHash(key)
		if err == nil && own != foreign {
			err = fmt.Errorf("%s: type hash %s, expected %s", key, foreign, own)
		}
		return err
	}
	c := comparison{own: set, foreign: map[string]*idl.Spec{}}
	if err := c.read(key, foreign); err != nil {
		return fmt.Errorf("foreign definition: %w", err)
	}
	return c.compare(key, key)
}

func isMD5(s string) bool {
	return len(s) == 32 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

// comparison holds a foreign definition beside the built-in ones.
type comparison struct {
	own     *idl.Set
	foreign map[string]*idl.Spec
}

// read takes a definition text apart: the type itself, then each dependency behind a line of = and "MSG: pkg/Name".
func (c *comparison) read(key, text string) error {
	var body strings.Builder
	finish := func() error {
		pkg, name, _ := strings.Cut(key, "/")
		spec, err := idl.Parse(pkg, name, "msg", body.String(), c.own.Generation)
		if err != nil {
			return err
		}
		c.foreign[key] = spec
		body.Reset()
		return nil
	}
	for line := range strings.Lines(text) {
		t := strings.TrimSpace(line)
		name, isHead := strings.CutPrefix(t, "MSG:")
		switch {
		case len(t) >= 10 && strings.Trim(t, "=") == "":
		case isHead:
			if err := finish(); err != nil {
				return err
			}
			key = Key(strings.TrimSpace(name))
		default:
			body.WriteString(line)
		}
	}
	return finish()
}

// compare walks over the built-in message; path is where it stands in the outermost one.
func (c *comparison) compare(key, path string) error {
	own, ok := c.own.Spec(key)
	if !ok {
		return fmt.Errorf("%s: message type %s is not known", path, key)
	}
	other, ok := c.foreign[key]
	if !ok {
		return fmt.Errorf("%s: the foreign definition lacks %s", path, key)
	}
	for i, f := range own.Fields {
		if i >= len(other.Fields) {
			return fmt.Errorf("%s: the foreign definition lacks field %s (%s)", path, f.Name, f.Type)
		}
		g := other.Fields[i]
		if f.Name != g.Name || !f.Type.SameWire(g.Type) {
			return fmt.Errorf("%s: field %d of the foreign definition is %s %s, expected %s %s", path, i+1, g.Type, g.Name, f.Type, f.Name)
		}
		if f.Type.Builtin() {
			continue
		}
		inner := f.Type.Key()
		if _, ok := c.foreign[inner]; !ok && strings.HasPrefix(inner, "builtin_interfaces/") {
			continue // some writers take these for built-in types
		}
		if err := c.compare(inner, path+"."+f.Name); err != nil {
			return err
		}
	}
	if n := len(own.Fields); len(other.Fields) > n {
		return fmt.Errorf("%s: the foreign definition has field %s (%s), which is not known", path, other.Fields[n].Name, other.Fields[n].Type)
	}
	return nil
}
