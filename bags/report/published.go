package report

import "github.com/stllm/stllm/node/stllm"

// judged is a published result on REA's validation set: percent that a judge called correct, and text metrics times 100.
type judged struct {
	Name, Judge string
	Tasks       map[stllm.Task]float64
	Overall     float64 // 0: not published
	Text        map[string]float64
}

// published are the figures of arXiv 2507.05258 on 1,757 validation items.
func published() []judged {
	return []judged{
		{Name: "ST-LLM, paper version 1", Judge: "GPT-4o", Overall: 34.55, Tasks: map[stllm.Task]float64{
			stllm.TaskDirection: 40.33, stllm.TaskDistance: 25.11, stllm.TaskFindItem: 34.89, stllm.TaskAffordance: 60.22, stllm.TaskPlanning: 13.83},
			Text: map[string]float64{"cider_d": 231.58, "bleu4": 48.29, "meteor": 34.34, "rouge_l": 57.77, "sensim": 79.32}},
		{Name: "ST-LLM, paper version 1", Judge: "Gemini 2.0 Flash", Tasks: map[stllm.Task]float64{
			stllm.TaskDirection: 41.33, stllm.TaskDistance: 35.78, stllm.TaskFindItem: 48.20, stllm.TaskAffordance: 64.52, stllm.TaskPlanning: 21.50}},
		{Name: "STLLM-3D, paper version 2", Judge: "two figures: 40.94 and 46.39"},
		{Name: "STLLM-Aligner, paper version 2", Judge: "two figures: 41.89 and 46.50"},
	}
}
