package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look at this machine: library, devices, ROS environment, limits",
		Args:  exactly(0, "none"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	bad := 0
	line := func(ok bool, what, format string, args ...any) {
		mark := "ok  "
		if !ok {
			mark = "FAIL"
			bad++
		}
		fmt.Fprintf(a.out, "%s  %-14s %s\n", mark, what, fmt.Sprintf(format, args...))
	}
	note := func(what, format string, args ...any) {
		fmt.Fprintf(a.out, "      %-14s %s\n", what, fmt.Sprintf(format, args...))
	}
	note("program", "stllm %s, %s, %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	note("processor", "%d cores", runtime.NumCPU())
	if mem, err := os.ReadFile("/proc/meminfo"); err == nil {
		note("memory", "%s, %s of it available", memoryLine(string(mem), "MemTotal"), memoryLine(string(mem), "MemAvailable"))
	}
	env, err := ort.OpenDefault()
	if err != nil {
		line(false, "ONNX Runtime", "%v", err)
	} else {
		line(true, "ONNX Runtime", "%s from %s", env.RuntimeVersion(), env.Path())
	}
	if gpus, err := os.ReadDir("/proc/driver/nvidia/gpus"); err == nil && len(gpus) > 0 {
		note("GPU", "%d NVIDIA device(s); --device cuda needs the GPU build of ONNX Runtime (stllm setup --gpu)", len(gpus))
	} else {
		note("GPU", "no NVIDIA driver is loaded; the CPU is used")
	}
	a.rosMaster(ctx, note)
	switch err := ros2.CheckEnvironment(); {
	case dds.Available && err != nil:
		line(false, "ROS 2", "%v", err)
	case dds.Available:
		note("ROS 2", "Fast DDS is built in; ROS_DOMAIN_ID=%q", os.Getenv("ROS_DOMAIN_ID"))
	default:
		note("ROS 2", "this binary was built without Fast DDS (apt-get install libfastrtps-dev libfastcdr-dev, then make build)")
	}
	if b, err := os.ReadFile("/proc/sys/net/core/rmem_max"); err == nil {
		note("UDP buffer", "net.core.rmem_max %s; best-effort images of several MB want 8388608 or more", strings.TrimSpace(string(b)))
	}
	if bad > 0 {
		return errors.New("something is missing; see the lines marked FAIL")
	}
	return nil
}

// memoryLine is what /proc/meminfo says of a kind of memory.
func memoryLine(mem, kind string) string {
	for l := range strings.Lines(mem) {
		var kib int64
		if n, err := fmt.Sscanf(l, kind+": %d kB", &kib); err == nil && n == 1 {
			return gigabytes(kib << 10)
		}
	}
	return "?"
}

func (a *app) rosMaster(ctx context.Context, note func(string, string, ...any)) {
	uri := os.Getenv("ROS_MASTER_URI")
	if uri == "" {
		uri = "http://localhost:11311"
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		note("ROS 1", "ROS_MASTER_URI is %q, expected http://host:port", uri)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		note("ROS 1", "no master answers at %s (start roscore, or set ROS_MASTER_URI)", uri)
		return
	}
	c.Close()
	note("ROS 1", "a master listens at %s; ROS_IP=%q ROS_HOSTNAME=%q", uri, os.Getenv("ROS_IP"), os.Getenv("ROS_HOSTNAME"))
}
