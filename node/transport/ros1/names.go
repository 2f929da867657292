package ros1

import (
	"fmt"
	"strings"
)

// Arguments are what roslaunch and rosrun pass on a command line, taken apart.
type Arguments struct {
	Name      string            // __name:=
	Namespace string            // __ns:=
	Master    string            // __master:=
	Host      string            // __ip:= or __hostname:=
	Remaps    map[string]string // from:=to
	Params    map[string]string // _name:=value, values as written
	Rest      []string          // everything else
}

// ParseArguments takes ROS 1 arguments out of a command line. Special arguments that mean nothing to this program
// (__log:=) are accepted and ignored, as roslaunch always passes them.
func ParseArguments(args []string) (Arguments, error) {
	a := Arguments{Remaps: map[string]string{}, Params: map[string]string{}}
	for _, arg := range args {
		from, to, ok := strings.Cut(arg, ":=")
		if !ok || strings.HasPrefix(arg, "-") {
			a.Rest = append(a.Rest, arg)
			continue
		}
		switch {
		case from == "":
			return a, fmt.Errorf("argument %q: nothing before \":=\", expected from:=to, _param:=value or __name:=value", arg)
		case from == "__name":
			if strings.ContainsAny(to, "/~") || to == "" {
				return a, fmt.Errorf("argument %q: a node name is not empty and has no slash; use __ns:= for the namespace", arg)
			}
			a.Name = to
		case from == "__ns":
			a.Namespace = to
		case from == "__master":
			a.Master = to
		case from == "__ip", from == "__hostname":
			a.Host = to
		case strings.HasPrefix(from, "__"):
		case strings.HasPrefix(from, "_"):
			a.Params[from[1:]] = to
		default:
			a.Remaps[from] = to
		}
	}
	return a, nil
}

// resolver expands graph names as rosgraph.names does: private, relative and global names, then remaps on full names.
type resolver struct {
	namespace string // "/" or "/a/b"
	node      string // full node name
	remaps    map[string]string
}

func newResolver(namespace, name string, remaps map[string]string) (*resolver, error) {
	ns := "/" + strings.Trim(namespace, "/")
	r := &resolver{namespace: ns, remaps: map[string]string{}}
	if err := validate(name); err != nil {
		return nil, fmt.Errorf("node name: %w", err)
	}
	r.node = join(ns, name)
	for from, to := range remaps {
		f, err := r.expand(from)
		if err != nil {
			return nil, fmt.Errorf("remap %s:=%s: %w", from, to, err)
		}
		t, err := r.expand(to)
		if err != nil {
			return nil, fmt.Errorf("remap %s:=%s: %w", from, to, err)
		}
		r.remaps[f] = t
	}
	return r, nil
}

func join(ns, name string) string {
	if ns == "/" {
		return "/" + name
	}
	return ns + "/" + name
}

func (r *resolver) expand(name string) (string, error) {
	if err := validate(strings.TrimPrefix(name, "~")); err != nil {
		return "", err
	}
	switch name[0] {
	case '/':
		return "/" + strings.Trim(name, "/"), nil
	case '~':
		return join(r.node, strings.Trim(name[1:], "/")), nil
	}
	return join(r.namespace, strings.Trim(name, "/")), nil
}

func (r *resolver) resolve(name string) (string, error) {
	full, err := r.expand(name)
	if err != nil {
		return "", err
	}
	if to, ok := r.remaps[full]; ok {
		return to, nil
	}
	return full, nil
}

func validate(name string) error {
	if strings.Trim(name, "/") == "" {
		return fmt.Errorf("graph name %q is empty", name)
	}
	for i, c := range name {
		ok := c == '_' || c == '/' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9'
		if !ok {
			return fmt.Errorf("graph name %q has %q at %d; letters, digits, _ and / are allowed, and no digit at the start", name, c, i)
		}
	}
	if strings.Contains(name, "//") {
		return fmt.Errorf("graph name %q has an empty part", name)
	}
	return nil
}
