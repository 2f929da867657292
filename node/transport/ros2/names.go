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

// ParseArguments takes ROS 2 arguments out of a command line (design.ros2.org "ros command line arguments").
func ParseArguments(args []string) (Arguments, error) {
	a := Arguments{Remaps: map[string]string{}, Params: map[string]string{}}
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
			return a, fmt.Errorf("unknown ROS argument %q after --ros-args", arg)
		}
		if !joined {
			if i++; i == len(args) {
				return a, fmt.Errorf("ROS argument %s has no value", flag)
			}
			value = args[i]
		}
		if err := a.set(flag, value); err != nil {
			return a, err
		}
	}
	return a, nil
}

func takesValue(flag string) bool {
	switch flag {
	case "-r", "--remap", "-p", "--param", "--params-file", "-e", "--enclave", "--log-level", "--log-config-file":
		return true
	}
	return false
}

func (a *Arguments) set(flag, value string) error {
	switch flag {
	case "--params-file":
		a.ParamFiles = append(a.ParamFiles, value)
	case "-e", "--enclave":
		a.Enclave = value
	case "--log-level":
		a.LogLevel = value
	case "-p", "--param":
		name, v, ok := strings.Cut(value, ":=")
		if !ok || name == "" {
			return fmt.Errorf("ROS argument %s %q: expected name:=value", flag, value)
		}
		a.Params[afterNode(name)] = v
	case "-r", "--remap":
		from, to, ok := strings.Cut(value, ":=")
		if !ok || from == "" || to == "" {
			return fmt.Errorf("ROS argument %s %q: expected from:=to", flag, value)
		}
		switch from = afterNode(from); from {
		case "__node", "__name":
			a.Name = to
		case "__ns":
			a.Namespace = to
		default:
			a.Remaps[from] = to
		}
	}
	return nil
}

// afterNode drops a "node:" prefix: this process has one node, which the prefix can only mean.
func afterNode(name string) string {
	if _, rest, ok := strings.Cut(name, ":"); ok {
		return rest
	}
	return name
}

// resolver expands names as rcl does.
type resolver struct {
	namespace, name string // "/ns" or "/", "stllm"
	remaps          map[string]string
}

func newResolver(namespace, name string, remaps map[string]string) (*resolver, error) {
	r := &resolver{namespace: "/" + strings.Trim(namespace, "/"), name: name, remaps: map[string]string{}}
	if strings.ContainsAny(name, "/~") {
		return nil, fmt.Errorf("node name %q: no slash and no tilde is allowed", name)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("node name: %w", err)
	}
	for from, to := range remaps {
		f, err := r.expand(unprefixed(from))
		if err != nil {
			return nil, fmt.Errorf("remap %s:=%s: %w", from, to, err)
		}
		t, err := r.expand(unprefixed(to))
		if err != nil {
			return nil, fmt.Errorf("remap %s:=%s: %w", from, to, err)
		}
		r.remaps[f] = t
	}
	return r, nil
}

// unprefixed drops rcl's scheme from a remap rule (rostopic://x, rosservice://x).
func unprefixed(name string) string {
	for _, p := range []string{"rostopic://", "rosservice://"} {
		name = strings.TrimPrefix(name, p)
	}
	return name
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
