package ros2

import (
	"fmt"
	"strings"
)

// Names on the wire (design.ros2.org "topic and service names", rmw_fastrtps_shared_cpp/namespace_prefix.cpp).
const (
	topicPrefix    = "rt"
	requestPrefix  = "rq"
	responsePrefix = "rr"
)

// wireTopic turns "/a/b" into "rt/a/b".
func wireTopic(name string) string { return topicPrefix + name }

// wireService turns "/s" into "rq/sRequest" and "rr/sReply".
func wireService(name string) (request, response string) {
	return requestPrefix + name + "Request", responsePrefix + name + "Reply"
}

// wireType turns ("stllm_msgs/Question", "msg") into "stllm_msgs::msg::dds_::Question_".
func wireType(typ, kind string) string {
	pkg, name, _ := strings.Cut(typ, "/")
	return pkg + "::" + kind + "::dds_::" + name + "_"
}

// rosType turns "std_msgs::msg::dds_::String_" into "std_msgs/msg/String", as ROS 2's tools write it. Another middleware's own types
// stay as they are.
func rosType(wire string) string {
	if pkg, name, ok := strings.Cut(wire, "::dds_::"); ok {
		return strings.ReplaceAll(pkg, "::", "/") + "/" + strings.TrimSuffix(name, "_")
	}
	return wire
}

// rosName takes a topic's prefix off: "rt/a/b" is "/a/b".
func rosName(wire string) string {
	if _, rest, ok := strings.Cut(wire, "/"); ok {
		return "/" + rest
	}
	return wire
}

// userValue reads a "key=value;" list of USER_DATA.
func userValue(data, key string) string {
	for pair := range strings.SplitSeq(data, ";") {
		if k, v, ok := strings.Cut(pair, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// defaultName is the node's name where nobody says another.
const defaultName = "stllm"

// Arguments are what ROS 2 passes on a command line, taken apart.
type Arguments struct {
	Name       string            // -r __node:= or __name:=
	Namespace  string            // -r __ns:=
	Remaps     map[string]string // -r from:=to
	Params     map[string]string // -p name:=value, values as YAML text
	ParamFiles []string          // --params-file
	Enclave    string            // -e
	LogLevel   string            // --log-level
	Rest       []string          // everything outside --ros-args … --
}

// Node is the full name of the node that these arguments are for.
func (a *Arguments) Node() (string, error) {
	name := a.Name
	if name == "" {
		name = defaultName
	}
	r, err := newResolver(a.Namespace, name, nil)
	if err != nil {
		return "", err
	}
	return r.node(), nil
}

// ParseArguments takes ROS 2 arguments out of a command line (design.ros2.org "ros command line arguments"); --ros-args may
// come several times. What is meant for a node of another name ("other:x:=1") is checked and left out.
func ParseArguments(args []string) (Arguments, error) {
	a := Arguments{Remaps: map[string]string{}, Params: map[string]string{}}
	rules, err := a.read(args)
	if err != nil {
		return a, err
	}
	// Names first: they say which rules are ours. A prefix before __node can only mean the name that was there before.
	for _, r := range rules {
		if !r.param && (r.node == "" || r.node == defaultName) {
			switch r.from {
			case "__node", "__name":
				a.Name = r.to
			case "__ns":
				a.Namespace = r.to
			}
		}
	}
	name := a.Name
	if name == "" {
		name = defaultName
	}
	for _, r := range rules {
		switch {
		case r.node != "" && r.node != name && r.node != under("/"+strings.Trim(a.Namespace, "/"), name):
		case r.param:
			a.Params[r.from] = r.to
		case r.from != "__node" && r.from != "__name" && r.from != "__ns":
			a.Remaps[r.from] = r.to
		}
	}
	return a, nil
}

// rule is one remap or parameter, perhaps for one node alone.
type rule struct {
	param          bool
	node, from, to string
}

func (a *Arguments) read(args []string) (rules []rule, err error) {
	inside := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--ros-args":
			inside = true
			continue
		case inside && arg == "--":
			inside = false
			continue
		case !inside:
			a.Rest = append(a.Rest, arg)
			continue
		}
		flag, value, joined := strings.Cut(arg, "=")
		if !strings.HasPrefix(flag, "--") || strings.HasSuffix(flag, ":") {
			flag, value, joined = arg, "", false
		}
		if !takesValue(flag) {
			if strings.HasPrefix(flag, "--enable-") || strings.HasPrefix(flag, "--disable-") {
				continue // logging sinks that this program does not have apart
			}
			return nil, fmt.Errorf("unknown ROS argument %q after --ros-args", arg)
		}
		if !joined {
			if i++; i == len(args) {
				return nil, fmt.Errorf("ROS argument %s has no value", flag)
			}
			value = args[i]
		}
		r, err := a.set(flag, value)
		if err != nil {
			return nil, err
		}
		if r != nil {
			rules = append(rules, *r)
		}
	}
	return rules, nil
}

func takesValue(flag string) bool {
	switch flag {
	case "-r", "--remap", "-p", "--param", "--params-file", "-e", "--enclave", "--log-level", "--log-config-file":
		return true
	}
	return false
}

// set takes one argument: a rule, or something that is the process's own.
func (a *Arguments) set(flag, value string) (*rule, error) {
	switch flag {
	case "--params-file":
		a.ParamFiles = append(a.ParamFiles, value)
	case "-e", "--enclave":
		a.Enclave = value
	case "--log-level":
		a.LogLevel = value
	case "-p", "--param":
		from, to, ok := strings.Cut(value, ":=")
		r := &rule{param: true, to: to}
		if r.node, r.from = splitNode(from); !ok || r.from == "" {
			return nil, fmt.Errorf("ROS argument %s %q: expected name:=value", flag, value)
		}
		return r, nil
	case "-r", "--remap":
		from, to, ok := strings.Cut(value, ":=")
		r := &rule{to: to}
		if r.node, r.from = splitNode(from); !ok || r.from == "" || to == "" {
			return nil, fmt.Errorf("ROS argument %s %q: expected from:=to", flag, value)
		}
		return r, nil
	}
	return nil, nil
}

// splitNode takes the "node:" before a rule apart, which a scheme ("rostopic://x") is not.
func splitNode(name string) (node, rest string) {
	node, rest, ok := strings.Cut(name, ":")
	if !ok || strings.HasPrefix(rest, "//") {
		return "", name
	}
	return node, rest
}

// resolver expands names as rcl does.
type resolver struct {
	namespace, name  string // "/ns" or "/", "stllm"
	topics, services map[string]string
}

func newResolver(namespace, name string, remaps map[string]string) (*resolver, error) {
	r := &resolver{namespace: "/" + strings.Trim(namespace, "/"), name: name, topics: map[string]string{}, services: map[string]string{}}
	if strings.ContainsAny(name, "/~") {
		return nil, fmt.Errorf("node name %q: no slash and no tilde is allowed", name)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("node name: %w", err)
	}
	if r.namespace != "/" {
		if err := checkName(r.namespace); err != nil {
			return nil, fmt.Errorf("namespace: %w", err)
		}
	}
	for from, to := range remaps {
		topic, service, bare := scheme(from)
		f, err := r.expand(bare)
		if err != nil {
			return nil, fmt.Errorf("remap %s:=%s: %w", from, to, err)
		}
		_, _, bare = scheme(to)
		t, err := r.expand(bare)
		if err != nil {
			return nil, fmt.Errorf("remap %s:=%s: %w", from, to, err)
		}
		if topic {
			r.topics[f] = t
		}
		if service {
			r.services[f] = t
		}
	}
	return r, nil
}

// scheme tells what a remap rule is for: all, or with rcl's scheme (rostopic://x, rosservice://x) one of them.
func scheme(name string) (topic, service bool, bare string) {
	if bare, ok := strings.CutPrefix(name, "rostopic://"); ok {
		return true, false, bare
	}
	if bare, ok := strings.CutPrefix(name, "rosservice://"); ok {
		return false, true, bare
	}
	return true, true, name
}

// node is the full node name.
func (r *resolver) node() string { return under(r.namespace, r.name) }

func under(ns, name string) string {
	if ns == "/" {
		return "/" + name
	}
	return ns + "/" + name
}

func (r *resolver) expand(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("name is empty")
	}
	full := name
	switch {
	case name == "~":
		full = r.node()
	case strings.HasPrefix(name, "~"):
		// "~/x" is the ROS 2 form; "~x", the ROS 1 form, is taken too, since the robot's names are the same for both.
		full = under(r.node(), strings.TrimPrefix(name[1:], "/"))
	case !strings.HasPrefix(name, "/"):
		full = under(r.namespace, name)
	}
	return full, checkName(full)
}

// resolve is for topics.
func (r *resolver) resolve(name string) (string, error) { return r.remapped(name, r.topics) }

// service is for services and actions.
func (r *resolver) service(name string) (string, error) { return r.remapped(name, r.services) }

func (r *resolver) remapped(name string, remaps map[string]string) (string, error) {
	full, err := r.expand(name)
	if err != nil {
		return "", err
	}
	if to, ok := remaps[full]; ok {
		return to, nil
	}
	return full, nil
}

// checkName applies the rules of rmw_validate_full_topic_name.
func checkName(name string) error {
	if strings.HasSuffix(name, "/") || strings.Contains(name, "//") || strings.Trim(name, "/") == "" {
		return fmt.Errorf("name %q has an empty part", name)
	}
	if len(name) > 247 {
		return fmt.Errorf("name of %d characters, at most 247 are allowed", len(name))
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
		for i, c := range part {
			ok := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9'
			if !ok {
				return fmt.Errorf("name %q has %q in %q; letters, digits and _ are allowed, and no digit at the start", name, c, part)
			}
		}
	}
	return nil
}
