package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/transport/ros1"
	"github.com/stllm/stllm/node/transport/ros2"
)

func (a *app) nodeCommand() *cobra.Command {
	var m modelFlags
	var rf robotFlags
	var kind string
	var wait time.Duration
	var gid int
	cmd := &cobra.Command{
		Use:   "node --transport ros1|ros2 [from:=to …] [_param:=value …] [--ros-args …]",
		Short: "Run the live node",
		Long: "node joins a ROS graph, listens to camera, TF and map, and answers questions on its topics and services.\n" +
			"ROS 1: ROS_MASTER_URI, ROS_IP, ROS_HOSTNAME and ROS_NAMESPACE are honoured, as are remaps (~image:=/camera/image_raw),\n" +
			"private parameters (_fixed_frame:=odom), __name:= and __ns:=. Parameters that roslaunch set are read as well.\n" +
			"ROS 2: ROS_DOMAIN_ID, ROS_LOCALHOST_ONLY, ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS are honoured, and\n" +
			"--ros-args with -r, -p, --params-file, -e and --log-level.",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch kind {
			case "ros1":
				if a.rosArgs.given {
					return usageError{errors.New("--ros-args is for --transport ros2; ROS 1 takes from:=to, _param:=value and __name:=")}
				}
				return a.ros1(cmd.Context(), &m, &rf, args, wait)
			case "ros2":
				if len(args) > 0 {
					return usageError{fmt.Errorf("argument %q: ROS 2 arguments come after --ros-args (-r from:=to, -p name:=value)", args[0])}
				}
				return a.ros2(cmd.Context(), &m, &rf, gid)
			}
			return usageError{fmt.Errorf("--transport is %q, expected ros1 or ros2", kind)}
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "transport", "ros1", "ros1 or ros2")
	f.DurationVar(&wait, "wait", 24*time.Hour, "how long to wait for the ROS master at the start")
	f.IntVar(&gid, "gid-width", 0, "ROS 2: bytes of a gid in ros_discovery_info, 16 (Iron and later) or 24 (up to Humble); 0: by ROS_DISTRO, else 16")
	m.add(f)
	rf.add(f)
	return cmd
}

// ros2 joins a ROS 2 graph as a managed node.
func (a *app) ros2(ctx context.Context, m *modelFlags, rf *robotFlags, gid int) error {
	args := a.rosArgs.Arguments
	name, err := args.Node()
	if err != nil {
		return usageError{err}
	}
	p, err := a.rosParameters(rf, args, name)
	if err != nil {
		return err
	}
	node, err := ros2.New(ros2.Config{
		Name: args.Name, Namespace: args.Namespace, Remaps: args.Remaps, Enclave: args.Enclave, GidWidth: gid, UseSimTime: p.UseSimTime, Log: a.log,
	})
	if err != nil {
		return err
	}
	defer node.Close()
	return a.managed(ctx, node, p, m)
}

// simulated is what _use_sim_time:=… says of the time or, where it is true, -p or a parameter file; nil leaves it to the master.
func simulated(p *params.Parameters, private map[string]string) (*bool, error) {
	value, given := private["use_sim_time"]
	if given {
		if err := p.Set("use_sim_time", value); err != nil {
			return nil, err
		}
	}
	if sim := p.UseSimTime; given || sim {
		return &sim, nil
	}
	return nil, nil
}

func (a *app) ros1(ctx context.Context, m *modelFlags, rf *robotFlags, args []string, wait time.Duration) error {
	ros, err := ros1.ParseArguments(args)
	if err != nil {
		return usageError{err}
	}
	if len(ros.Rest) > 0 {
		return usageError{fmt.Errorf("argument %q is neither a remap (from:=to) nor a parameter (_name:=value)", ros.Rest[0])}
	}
	p, err := rf.parameters()
	if err != nil {
		return err
	}
	sim, err := simulated(&p, ros.Params)
	if err != nil {
		return err
	}
	start, cancel := context.WithTimeout(ctx, wait)
	node, err := ros1.New(start, ros1.Config{
		Name: ros.Name, Namespace: ros.Namespace, Remaps: ros.Remaps, Master: ros.Master, Host: ros.Host, UseSimTime: sim, Log: a.log,
	})
	cancel()
	if err != nil {
		return err
	}
	defer node.Close()
	// What the launch file set, then what the command line says.
	set, err := node.Parameters(params.Names())
	if err != nil {
		return err
	}
	for name, value := range ros.Params {
		set[name] = value
	}
	for name, value := range set {
		if err := p.Set(name, value); err != nil {
			return err
		}
	}
	if err := m.take(&p); err != nil {
		return err
	}
	links, err := extrinsics(&p)
	if err != nil {
		return err
	}
	// Frames are refused until the model is there, questions are answered with an error code: nobody waits in the dark.
	r, err := robot.New(robot.Config{Transport: node, Params: p, Plans: label.Reader{}, Labels: label.Reader{}, Links: links, Log: a.log})
	if err != nil {
		return err
	}
	defer r.Close()
	n, loadErr := a.load(ctx, m)
	if loadErr != nil {
		_ = r.SetModel(ctx, nil, loadErr)
		return loadErr
	}
	defer n.Close()
	if err := r.SetModel(ctx, n, nil); err != nil {
		return err
	}
	a.log.Info().Str("node", node.Name()).Str("transport", "ros1").Msg("ready for questions on ~question and ~question_text")
	select {
	case <-ctx.Done():
		a.log.Info().Msg("shutting down")
		return nil
	case <-node.Done():
		return toldError{errors.New("the ROS master asked this node to end: another node has its name")} // by the node, with the reason
	}
}
