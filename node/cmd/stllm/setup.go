package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/ort/fetch"
)

func (a *app) setupCommand() *cobra.Command {
	var metrics, llm, gpu bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Fetch the ONNX Runtime library into the cache (once; found again offline)",
		Long: "setup fetches the pinned ONNX Runtime library through pip or npm, verifies its checksum and puts it into the cache\n" +
			"(STLLM_CACHE, default the user's cache folder). STLLM_ONNXRUNTIME=/path/libonnxruntime.so makes it unnecessary.",
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fetch.Library(cmd.Context(), a.out); err != nil {
				return err
			}
			var err error
			if metrics {
				err = fetch.Metrics(cmd.Context(), a.out)
			}
			if gpu {
				err = errors.Join(err, fetch.GPU(cmd.Context(), a.out))
			}
			if llm {
				err = errors.Join(err, fetch.LanguageModel(cmd.Context(), a.out))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&metrics, "metrics", false, "fetch what METEOR and sentence similarity need as well (about 190 MB)")
	cmd.Flags().BoolVar(&gpu, "gpu", false, "fetch the CUDA build of ONNX Runtime, and CUDA's libraries where the machine lacks them (250 MB to 1.5 GB)")
	cmd.Flags().BoolVar(&llm, "llm", false, "fetch SmolLM2-135M-Instruct for stllm chat, and llama.cpp to compare with (about 104 MB)")
	return cmd
}
