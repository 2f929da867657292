"""The stages of an answer in PyTorch and transformers, for `stllm bench answer --peer python3`.

Reads a request as JSON from standard input and writes seconds by stage and the process's peak memory as JSON. The networks
have the shapes of the model folder's config.json and random weights, all in the type that is asked for: what they compute
costs the same. The point encoder is left out, for PyTorch has no sparse convolution.
"""
import json
import resource
import sys
import time

import torch
import transformers

ask = json.load(sys.stdin)
config = json.load(open(ask["config"]))
torch.set_num_threads(ask["threads"])
torch.set_default_dtype(getattr(torch, ask["dtype"]))
torch.manual_seed(0)
torch.set_grad_enabled(False)
vision, former = config["vision_config"], config["qformer_config"]
width = config["hidden_size"]

start = time.perf_counter()
tower = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(
    hidden_size=vision["hidden_size"], intermediate_size=vision["intermediate_size"], num_hidden_layers=vision["num_hidden_layers"] - 1,
    num_attention_heads=vision["num_attention_heads"], image_size=vision["image_size"], patch_size=vision["patch_size"],
    vision_use_head=False)).eval()
projector = torch.nn.Sequential(torch.nn.Linear(vision["hidden_size"], width), torch.nn.GELU(), torch.nn.Linear(width, width))
aligner = transformers.InstructBlipQFormerModel(transformers.InstructBlipQFormerConfig(
    hidden_size=former["hidden_size"], num_hidden_layers=former["num_hidden_layers"], num_attention_heads=former["num_attention_heads"],
    intermediate_size=former["intermediate_size"], encoder_hidden_size=former["encoder_hidden_size"],
    cross_attention_frequency=former["cross_attention_frequency"])).eval()
language = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
    vocab_size=config["vocab_size"], hidden_size=width, intermediate_size=config["intermediate_size"],
    num_hidden_layers=config["num_hidden_layers"], num_attention_heads=config["num_attention_heads"],
    num_key_value_heads=config["num_key_value_heads"], max_position_embeddings=config["max_position_embeddings"],
    tie_word_embeddings=False)).eval()
seconds = {"load": time.perf_counter() - start}


def timed(stage, run):
    """The faster of two runs: the first one warms up."""
    took = []
    for _ in range(2):
        start = time.perf_counter()
        out = run()
        took.append(time.perf_counter() - start)
    seconds[stage] = min(took)
    return out


def frames():
    for _ in range(ask["frames"]):
        x = torch.randn(1, 3, vision["image_size"], vision["image_size"])
        projector(tower(pixel_values=x).last_hidden_state)


def decode():
    cache = prefill().past_key_values
    token = torch.zeros(1, 1, dtype=torch.long)
    start = time.perf_counter()
    for _ in range(ask["tokens"] - 1):
        out = language(input_ids=token, past_key_values=cache, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
    return time.perf_counter() - start


def prefill():
    return language(inputs_embeds=torch.randn(1, ask["prompt"], width), use_cache=True, logits_to_keep=1)


timed("vision", frames)
memory = torch.randn(1, ask["memory"], former["encoder_hidden_size"])
timed("align", lambda: aligner(
    input_ids=None, query_embeds=torch.randn(1, ask["sequence"], former["hidden_size"]), encoder_hidden_states=memory))
timed("prefill", prefill)
decode()
seconds["decode"] = decode()
json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "seconds": seconds,
           "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}, sys.stdout)
