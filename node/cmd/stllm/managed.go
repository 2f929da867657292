package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/lifecycle"
	"github.com/stllm/stllm/node/transport/ros2/parameters"
	"github.com/stllm/stllm/node/transport/ros2/rosout"
)

// rosParameters puts defaults, this program's own flags and what a ROS 2 command line says of a node together, in this order,
// and sets the log level.
func (a *app) rosParameters(rf *robotFlags, args ros2.Arguments, node string) (params.Parameters, error) {
	if args.LogLevel != "" {
		level, own, err := rosout.ParseLevel(args.LogLevel, node)
		if err != nil {
			return params.Parameters{}, usageError{err}
		}
		if own {
			a.log = a.log.Level(level)
		}
	}
	p, err := rf.parameters()
	if err != nil {
		return p, err
	}
	foreign, err := p.ROS2Arguments(args.ParamFiles, args.Params, node)
	if err != nil {
		return p, err
	}
	for _, f := range foreign {
		a.log.Warn().Msg(f.Error() + "; it is left to other nodes")
	}
	return p, nil
}

// managed runs the robot as a managed ROS 2 node on a graph that it has joined already, until ctx ends: lifecycle, parameter
// services, /rosout. With autostart the model is loaded and the node activated at once, and a failure of that is returned. The
// transport must not log through this program's /rosout; it has a.log as it was before.
func (a *app) managed(ctx context.Context, node transport.Transport, p params.Parameters, m *modelFlags) error {
	if err := m.take(&p); err != nil {
		return err
	}
	return a.manage(ctx, node, p, func(ctx context.Context, told *app) (stllm.Model, error) {
		n, err := told.load(ctx, m)
		if err != nil {
			return nil, err // not a nil *Network in the interface
		}
		return n, nil
	})
}

// manage is managed with any way to load a model. load logs through the app that it is given.
func (a *app) manage(ctx context.Context, node transport.Transport, p params.Parameters, load func(context.Context, *app) (stllm.Model, error)) error {
	out, err := rosout.New(node)
	if err != nil {
		return err
	}
	defer out.Close()
	told := *a
	told.log = rosout.Tee(a.log, a.logWriter(), out)

	links, err := extrinsics(&p)
	if err != nil {
		return err
	}
	w := worker{load: func(ctx context.Context) (stllm.Model, error) { return load(ctx, &told) }}
	defer w.drop() // after the robot, which may use it, is closed
	r, err := robot.New(robot.Config{Transport: node, Params: p, Plans: label.Reader{}, Labels: label.Reader{}, Links: links, Log: told.log, Inactive: true,
		Counters: func() map[string]uint64 { return map[string]uint64{"/rosout dropped": out.Dropped()} }})
	if err != nil {
		return err
	}
	defer r.Close()
	services, err := parameters.New(ctx, node, r, told.log)
	if err != nil {
		return err
	}
	defer services.Close()
	w.robot = r
	if !p.Autostart { // somebody else manages the node, and may want to know that it lives
		if w.bond, err = lifecycle.NewBond(node); err != nil {
			return err
		}
		defer w.bond.Close()
	}
	machine, err := lifecycle.New(node, lifecycle.Callbacks{
		Configure: w.configure, Activate: w.activate, Deactivate: w.deactivate, Cleanup: w.cleanup, Shutdown: w.end, Recover: w.end,
	}, told.log)
	if err != nil {
		return err
	}
	defer machine.Close()
	if p.Autostart {
		for _, t := range []string{lifecycle.Configure, lifecycle.Activate} {
			if err := machine.Change(ctx, t); err != nil {
				if ctx.Err() != nil {
					return nil // told to end while it started
				}
				if errors.As(err, new(*lifecycle.RefusedError)) {
					return err
				}
				return toldError{err} // by the machine, which tells it on /rosout as well
			}
		}
		told.log.Info().Str("node", node.Name()).Str("transport", "ros2").Msg("ready for questions on ~/question and ~/question_text")
	} else {
		told.log.Info().Str("node", node.Name()).Str("transport", "ros2").Msg("unconfigured: waiting for the lifecycle services (autostart is false)")
	}
	<-ctx.Done()
	told.log.Info().Msg("shutting down")
	// The graph is told before the services go. A node that is in a transition, or finalized, refuses; Close ends it all the same.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var refused *lifecycle.RefusedError
	if err := machine.Change(last, lifecycle.Shutdown); err != nil && !errors.As(err, &refused) {
		told.log.Warn().Err(err).Msg("shutdown")
	}
	return nil
}

// worker gives a robot its model and takes it back. Its methods are called one at a time: by the lifecycle machine, and when
// that is closed.
type worker struct {
	robot *robot.Robot
	load  func(context.Context) (stllm.Model, error)
	model stllm.Model     // nil when unconfigured
	bond  *lifecycle.Bond // nil: none
}

func (w *worker) activate(ctx context.Context) error {
	if err := w.robot.SetActive(ctx, true); err != nil {
		return err
	}
	if w.bond != nil {
		w.bond.Join()
	}
	return nil
}

func (w *worker) deactivate(ctx context.Context) error {
	if w.bond != nil {
		w.bond.Break()
	}
	return w.robot.SetActive(ctx, false)
}

func (w *worker) configure(ctx context.Context) error {
	n, err := w.load(ctx)
	if err != nil {
		// Questions are refused with the reason.
		return errors.Join(err, w.robot.SetModel(ctx, nil, err))
	}
	w.model = n
	if err := w.robot.SetModel(ctx, n, nil); err != nil {
		return fmt.Errorf("%w: %w", lifecycle.ErrBroken, err)
	}
	return nil
}

// cleanup forgets model, window and map, and gives the model's memory back.
func (w *worker) cleanup(ctx context.Context) error {
	if err := w.robot.SetModel(ctx, nil, nil); err != nil {
		return fmt.Errorf("%w: %w", lifecycle.ErrBroken, err)
	}
	if err := w.robot.Quiet(ctx); err != nil {
		return fmt.Errorf("%w: %w", lifecycle.ErrBroken, err)
	}
	return w.drop()
}

func (w *worker) end(ctx context.Context, _ lifecycle.State) error {
	if err := w.deactivate(ctx); err != nil {
		return err
	}
	return w.cleanup(ctx)
}

// drop closes the model, which nothing may use any more.
func (w *worker) drop() error {
	if w.model == nil {
		return nil
	}
	err := w.model.Close()
	w.model = nil
	return err
}
