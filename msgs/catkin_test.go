package msgs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
)

// stllm_msgs builds with catkin, and what genpy makes of it has our MD5 sums.
func TestCatkinBuild(t *testing.T) {
	for _, need := range []string{"/usr/bin/cmake", "/usr/bin/make", "/usr/bin/python3", "/usr/share/catkin/cmake/catkinConfig.cmake", "/usr/share/message_generation", "/usr/share/geometry_msgs/cmake", "/usr/share/actionlib_msgs/cmake", "/usr/lib/python3/dist-packages/genpy"} {
		if _, err := os.Stat(need); err != nil {
			t.Skipf("%s is missing: apt-get install cmake catkin ros-message-generation python3-genpy python3-gencpp libstd-msgs-dev libgeometry-msgs-dev libactionlib-msgs-dev", need)
		}
	}
	source, err := filepath.Abs("stllm_msgs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "ROS_VERSION=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("/usr/bin/cmake", source, "-DCATKIN_DEVEL_PREFIX="+dir+"/devel", "-DPYTHON_EXECUTABLE=/usr/bin/python3", "-DCATKIN_ENABLE_TESTING=OFF")
	run("/usr/bin/make", "stllm_msgs_generate_messages_py", "stllm_msgs_generate_messages_cpp")
	if _, err := os.Stat(dir + "/devel/include/stllm_msgs/AskActionGoal.h"); err != nil {
		t.Error(err)
	}
	sums := run("/usr/bin/python3", "-c", `
import glob, os, sys
sys.path.insert(0, os.path.dirname(glob.glob("devel/lib/python3*/*-packages/stllm_msgs")[0]))
import stllm_msgs.msg, stllm_msgs.srv
for module in (stllm_msgs.msg, stllm_msgs.srv):
    for name in sorted(dir(module)):
        c = getattr(module, name)
        if hasattr(c, "_md5sum"):
            print(c._type, c._md5sum)
`)
	n := 0
	for line := range strings.Lines(sums) {
		f := strings.Fields(line)
		typ := ros2Name(f[0])
		if strings.HasPrefix(typ, "stllm_msgs/AskAction") || strings.HasPrefix(typ, "stllm_msgs/PlanActionAction") {
			continue // actionlib's own, which the node does not speak
		}
		if got, err := msgs.MD5(typ); err != nil || got != f[1] {
			t.Errorf("%s: MD5 sum %s (%v), genpy has %s", f[0], got, err, f[1])
		}
		n++
	}
	if n < 19 {
		t.Errorf("%d sums, expected 7 messages, 6 parts of actions, 2 services and their 4 parts:\n%s", n, sums)
	}
}
