package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/transport/ros2"
)

// exit codes of the program.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// app is what the subcommands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	log      zerolog.Logger
	verbose  bool
	jsonLog  bool
	rosArgs  rosArgs
}

// rosArgs is what stands between --ros-args and --, which cobra never sees.
type rosArgs struct {
	ros2.Arguments
	given bool
}

// usageError marks a wrong command line, which ends with another exit code than a failed run.
type usageError struct{ error }

// toldError is a failure that the log has told of already.
type toldError struct{ error }

func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw}
	root := a.root()
	var wrong error // told below, with the command that it belongs to
	if slices.Contains(args, "--ros-args") {
		a.rosArgs.given = true
		if a.rosArgs.Arguments, wrong = ros2.ParseArguments(args); wrong != nil {
			root.PersistentPreRunE = func(*cobra.Command, []string) error { return usageError{wrong} }
			args = args[:slices.Index(args, "--ros-args")]
		} else {
			args = append([]string{}, a.rosArgs.Rest...) // not nil, which to cobra means the process's own
		}
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.As(err, new(toldError)) {
		return exitError
	}
	text := err.Error()
	if ctx.Err() != nil { // whoever has pressed Ctrl-C knows no contexts
		text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
	}
	fmt.Fprintf(errw, "stllm: %s\n", text)
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintf(errw, "Run '%s -h' for help.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "stllm",
		Short: "Answers questions about where things are and what just happened, from a robot's camera, TF and map",
		Long: "stllm listens to a robot's camera, TF and map point cloud, keeps a rolling window of posed frames against the\n" +
			"global scene, and answers questions by running the ST-LLM graph (arXiv 2507.05258) through ONNX Runtime.",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if a.rosArgs.given && cmd.Name() != "node" {
				return usageError{fmt.Errorf("--ros-args is for stllm node --transport ros2, not for %s", cmd.CommandPath())}
			}
			a.log = a.logger()
			return nil
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log details")
	f.BoolVar(&a.jsonLog, "log-json", false, "log as JSON lines")
	root.AddCommand(a.commands()...)
	return group(root)
}

func (a *app) logger() zerolog.Logger {
	level := zerolog.InfoLevel
	if a.verbose {
		level = zerolog.DebugLevel
	}
	return zerolog.New(a.logWriter()).Level(level).With().Timestamp().Logger()
}

// logWriter is where people read the log.
func (a *app) logWriter() io.Writer {
	if a.jsonLog {
		return a.err
	}
	f, terminal := a.err.(*os.File)
	noColor := !terminal || os.Getenv("NO_COLOR") != ""
	if terminal {
		info, err := f.Stat()
		noColor = noColor || err != nil || info.Mode()&os.ModeCharDevice == 0
	}
	return zerolog.ConsoleWriter{Out: a.err, TimeFormat: time.TimeOnly, NoColor: noColor}
}

// group makes a command of one that only has others below it: alone it shows its help, with a name that it does not know it is an
// error.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return usageError{fmt.Errorf("%s has no command %q, expected one of %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// exactly refuses other numbers of arguments with a sentence that says what they are.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%d arguments given, expected %s", len(args), what)}
		}
		return nil
	}
}

// atLeast refuses fewer arguments.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%d arguments given, expected %s", len(args), what)}
		}
		return nil
	}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	return v
}
