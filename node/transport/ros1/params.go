package ros1

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bluenviron/goroslib/v2/pkg/apiparam"
)

// Parameters reads this node's private parameters from the master's parameter server (what roslaunch's <param> and
// <rosparam> set), for the given names. Values come back as text; the parameter set gives them their types.
func (n *Node) Parameters(names []string) (map[string]string, error) {
	c := apiparam.NewClient(n.masterAt, n.Name(), n.http)
	known, err := c.GetParamNames()
	if err != nil {
		return nil, fmt.Errorf("list the master's parameters: %w", err)
	}
	wanted := make(map[string]string, len(names))
	for _, name := range names {
		wanted[join(n.Name(), strings.ReplaceAll(name, ".", "/"))] = name
	}
	values := map[string]string{}
	for _, key := range known {
		name, ok := wanted[key]
		if !ok {
			continue
		}
		if values[name], err = value(c, key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// value asks for one type after the other: XML-RPC values carry their type, and goroslib's client wants to know it before.
func value(c *apiparam.Client, key string) (string, error) {
	if v, err := c.GetParamBool(key); err == nil {
		return strconv.FormatBool(v), nil
	}
	if v, err := c.GetParamInt(key); err == nil {
		return strconv.Itoa(v), nil
	}
	if v, err := c.GetParamFloat64(key); err == nil {
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	v, err := c.GetParamString(key)
	if err != nil {
		return "", fmt.Errorf("parameter %s is neither bool, int, double nor string: %w", key, err)
	}
	return v, nil
}
