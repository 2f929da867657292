package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/nano"
)

// modelFlags are the flags of every command that loads a model.
type modelFlags struct {
	dir   string
	opt   stllm.Options
	dtype string         // as given; see numbers
	flags *pflag.FlagSet // nil: none was given
}

func (m *modelFlags) add(f *pflag.FlagSet) {
	f.StringVar(&m.dir, "model", "nano", "model folder (Hugging Face layout), or nano: the small built-in model")
	m.addRun(f)
}

// addRun adds the flags that say how a model runs.
func (m *modelFlags) addRun(f *pflag.FlagSet) {
	m.flags = f
	f.StringVar(&m.opt.Device, "device", "cpu", "cpu, cuda or cuda:N")
	f.IntVar(&m.opt.Threads, "threads", 0, "CPU threads; 0: all cores")
	f.BoolVar(&m.opt.Spin, "spin", true, "threads spin between the operators of a token: faster decoding; they sleep when nothing is asked")
	f.StringVar(&m.dtype, "dtype", "auto", "number format: auto (fp32 on the CPU, bf16 on CUDA), fp32, bf16 (on the CPU: pictures, aligner and prompt faster, with AVX-512 BF16), fp16, or int4: 4-bit weights in the language model")
	f.BoolVar(&m.opt.Int4, "int4", false, "the same as --dtype int4")
	f.StringVar(&m.opt.PointWeights, "point-weights", "", "point encoder file where it lies outside the folder (OpenScene's .pth)")
}

// take fills in from parameters what no flag says, and puts into the parameters what flags say, so that both agree.
func (m *modelFlags) take(p *params.Parameters) error {
	given := func(name string) bool { return m.flags != nil && m.flags.Changed(name) }
	if given("model") && m.dir != "" { // launch files give an empty one where nothing is meant
		p.Model = m.dir
	} else {
		m.dir = p.Model
	}
	switch kind, _, _ := strings.Cut(m.opt.Device, ":"); {
	case given("device"):
		p.Device = kind
	case p.Device != "auto":
		m.opt.Device = p.Device
	}
	if given("threads") {
		p.Threads = int64(m.opt.Threads)
	} else {
		m.opt.Threads = int(p.Threads)
	}
	switch {
	case given("dtype"):
		p.DType = m.dtype
	case given("int4") && m.opt.Int4:
		p.DType = "int4"
	case given("int4"):
		return p.Validate() // --int4=false overrules the parameter
	}
	if err := p.Validate(); err != nil {
		return err
	}
	m.dtype = p.DType
	return m.numbers()
}

// numbers checks the numbers of the flags and turns the number format into the model's options.
func (m *modelFlags) numbers() error {
	if p, _ := params.Lookup("threads"); float64(m.opt.Threads) < p.Min || float64(m.opt.Threads) > p.Max {
		return usageError{fmt.Errorf("--threads is %d, expected 0 (all cores) to %g", m.opt.Threads, p.Max)}
	}
	switch m.dtype {
	case "", "auto":
	case "int4":
		m.opt.Int4 = true
	case "fp32", "bf16", "fp16":
		m.opt.DType = m.dtype
	default:
		return usageError{fmt.Errorf("--dtype is %q, expected auto, fp32, bf16, fp16 or int4", m.dtype)}
	}
	return nil
}

// folder finds the model folder; the built-in model is unpacked into the cache when it is not there yet.
func (m *modelFlags) folder(ctx context.Context) (string, error) {
	if m.dir != "nano" {
		if _, err := os.Stat(m.dir); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("there is no model folder %q; the name of the built-in model is nano", m.dir)
		}
		return m.dir, nil
	}
	cache, err := ort.CacheDir()
	if err != nil {
		return "", err
	}
	hash, err := nano.Hash()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "models", "nano-"+hash)
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
		return dir, nil
	}
	// Made beside its place and renamed, so that a broken-off run leaves no half model.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".nano-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	made := filepath.Join(tmp, "model")
	if err := errors.Join(ctx.Err(), nano.Write(made)); err != nil {
		return "", err
	}
	if err := os.Rename(made, dir); err != nil {
		if _, statErr := os.Stat(filepath.Join(dir, "config.json")); statErr == nil {
			return dir, nil // another process was faster
		}
		return "", err
	}
	return dir, nil
}

// load opens the library and the model.
func (a *app) load(ctx context.Context, m *modelFlags) (*stllm.Network, error) {
	if err := m.numbers(); err != nil {
		return nil, err
	}
	dir, err := m.folder(ctx)
	if err != nil {
		return nil, err
	}
	env, err := ort.OpenDefault()
	if err != nil {
		return nil, err
	}
	o := m.opt
	o.Log = a.log
	bar := a.progress("load")
	o.Progress = func(_ string, done, total int64) { bar.set(int(done>>20), int(total>>20)) }
	n, err := stllm.Load(ctx, env, dir, o)
	bar.done()
	if err != nil {
		return nil, err
	}
	a.logQuantised(n.Quantised())
	a.log.Info().Str("model", n.ID()).Str("folder", dir).Str("device", o.Device).Msg("model loaded")
	return n, nil
}

func (a *app) modelCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "model", Short: "Make and inspect model folders"}
	var o nano.Options
	initCmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a model folder with weights generated from a seed",
		Args:  exactly(1, "one new folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := a.progress("weights")
			o.Progress = func(done, total int64) { b.set(int(done>>20), int(total>>20)) }
			if err := nano.Init(cmd.Context(), args[0], o); err != nil {
				return err
			}
			b.done()
			fmt.Fprintf(a.out, "%s: %s-untrained, seed %d\n", args[0], o.Config, o.Seed)
			return nil
		},
	}
	initCmd.Flags().StringVar(&o.Config, "config", "nano", "nano (5.9 M parameters), published (8 G, about 16 GB), published-tenth (a tenth of its depth), published-tiny (0.5 M, for trials) or so400m-0.5b (1.1 G, with Qwen2-0.5B's shape)")
	initCmd.Flags().Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same bytes")
	initCmd.Flags().StringToStringVar(&o.Set, "set", nil, "fields of the config with other values, for example robot_config.start_frame=false; may be repeated")
	var points string
	var all bool
	info := &cobra.Command{
		Use:   "info DIR",
		Short: "Show the profile, every part with its shape, parameters, dtype and file, and what is missing or unexpected",
		Args:  exactly(1, "one model folder, or nano"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := modelFlags{dir: args[0]}
			dir, err := m.folder(cmd.Context())
			if err != nil {
				return err
			}
			return a.modelInfo(dir, points, all)
		},
	}
	info.Flags().StringVar(&points, "point-weights", "", "point encoder file where it lies outside the folder")
	info.Flags().BoolVar(&all, "tensors", false, "list every tensor with its shape, dtype and file")
	var as string
	var set map[string]string
	export := &cobra.Command{
		Use:   "export DIR OUT",
		Short: "Write a trained model folder in half precision under a name of its own, and with other fields of its config",
		Args:  exactly(2, "a model folder, or nano, and a new one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := modelFlags{dir: args[0]}
			dir, err := m.folder(cmd.Context())
			if err == nil {
				dir, err = checkpoint.ResolveFolder(dir)
			}
			if err != nil {
				return err
			}
			if err := nano.Export(cmd.Context(), dir, args[1], as, set); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: %s, weights as float16\n", args[1], as)
			return nil
		},
	}
	export.Flags().StringVar(&as, "name", "nano", "what the model calls itself in answers")
	export.Flags().StringToStringVar(&set, "set", nil, "fields of the config with other values that the weights fit, for example robot_config.patch_place=depth; may be repeated")
	cmd.AddCommand(initCmd, info, export, a.modelQuantizeCommand())
	return group(cmd)
}

// openModel opens the config and the weights of a model folder; points may be empty.
func openModel(dir, points string) (*config.Config, *checkpoint.Folder, error) {
	dir, err := checkpoint.ResolveFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	c, err := config.Load(dir)
	if err != nil {
		return nil, nil, err
	}
	f, err := layout.Open(dir, points, c)
	return c, f, err
}
