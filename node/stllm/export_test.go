package stllm

import "context"

// PromptLogits are the logits after the prompt of a request without spatial tokens, for tests that compare two networks.
func (n *Network) PromptLogits(ctx context.Context, req Request) ([]float32, error) {
	p, err := n.prompt(req)
	if err != nil {
		return nil, err
	}
	frames, _, err := n.inputs(req)
	if err != nil {
		return nil, err
	}
	embeds, err := n.splice(p, nil, frames.pooled)
	if err != nil {
		return nil, err
	}
	d, err := n.newDecode(1, len(embeds)/n.cfg.HiddenSize)
	if err != nil {
		return nil, err
	}
	defer d.close()
	logits, _, err := d.prefill(ctx, embeds, nil)
	return logits, err
}
