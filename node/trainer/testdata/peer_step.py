"""One joint training step in PyTorch, for BenchmarkJointStep.

argv[1] is a JSON file: the inputs of the step's program by name, with shape, numbers ("f" floats, "l" integers) and "param" for
what is trained. Writes a line of JSON: the loss, the largest gradient of each parameter, the floating-point operations of the step's
products, and how many a second these threads do at most (a product of large square matrices, the best of some); then, for every
line on standard input, runs the step again and writes the seconds.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

ask = json.load(open(sys.argv[1]))
torch.set_num_threads(ask["threads"])
D, H = ask["hidden"], ask["qformer"]
X, W = {}, {}
for name, f in ask["inputs"].items():
    x = torch.tensor(f["f"] if f.get("f") else f["l"], dtype=torch.float32 if f.get("f") else torch.int64).reshape(f["shape"])
    if f.get("param"):
        W[name] = x.requires_grad_()
    else:
        X[name] = x


def w(name):
    return W[name] if name in W else X[name]


def lin(x, p):
    return F.linear(x, w(p + ".weight"), w(p + ".bias") if p + ".bias" in W or p + ".bias" in X else None)


def norm(x, p):
    return F.layer_norm(x, (H,), w(p + ".weight"), w(p + ".bias"), 1e-12)


def heads(x, n):
    return x.view(x.shape[0], x.shape[1], n, -1).transpose(1, 2)


def attend(x, source, mask, p):
    q, k, v = lin(x, p + "attention.query"), lin(source, p + "attention.key"), lin(source, p + "attention.value")
    shape = q.shape
    if source.shape[0] == 1:
        q = q.reshape(1, -1, H)
    n = ask["qformer_heads"]
    a = F.scaled_dot_product_attention(heads(q, n), heads(k, n), heads(v, n), attn_mask=mask)
    return norm(lin(a.transpose(1, 2).reshape(shape), p + "output.dense") + x, p + "output.LayerNorm")


def near(text):
    around = ask["context"]
    own = lin(text, "text_embed_to_qformer_projection")
    if not around:
        return own
    wide = F.pad(text, (0, 0, around, around))
    n = text.shape[1]
    sides = [wide[:, around + o:around + o + n] for o in range(-around, around + 1) if o]
    return own + F.linear(torch.cat(sides, 2), w("text_context_projection.weight"))


def bowl(d, weight):
    size = d.abs()
    return (torch.where(size < 0.2, d * d * 0.5 / 0.2, size - 0.1) * weight).sum() / (weight.sum() + 1e-3)


def step():
    n = X["text"].shape[0]
    images = lin(X["images"], "img_encoder_to_qformer_projection") + lin(X["image_rays"], "img_ray_encoder.img_ray_projection_to_qformer")
    x = torch.cat([w("latent_query.weight").expand(n, -1, -1), images.expand(n, -1, -1), near(X["text"])], 1)
    place = "pcd_ray_encoder.pcd_ray_projection_to_qformer"
    memory = torch.cat([X["points"] + lin(X["point_rays"], place), X["patches"] + lin(X["patch_rays"], place), w("memory_empty.weight")])[None]
    x = norm(x, "qformer.embeddings.layernorm")
    for i in range(ask["qformer_layers"]):
        early, p = x, f"qformer.encoder.layer.{i}."
        x = attend(x, x, X["text_mask"], p + "attention.")
        if i % ask["cross_frequency"] == 0:
            x = attend(x, memory, None, p + "crossattention.")
        x = norm(lin(F.gelu(lin(x, p + "intermediate_query.dense")), p + "output_query.dense") + x, p + "output_query.LayerNorm")
        if i == ask["qformer_layers"] // 2:
            middle = x
    loss = bowl(F.linear(x[:, :4].reshape(n, -1), w("train.head.places.weight")) - X["target"], X["target_weight"])
    loss = loss - ask["class_weight"] * (F.log_softmax(F.linear(x[:, 4], w("train.head.class.weight")), -1) * X["class"]).sum(1).mean()
    loss = loss - ask["unseen_weight"] * torch.log(torch.sigmoid(F.linear(x[:, 5], w("train.head.unseen.weight")) * X["unseen"]) + 1e-9).sum(1).mean()
    for at, head in ((middle, "train.head.early_steps.weight"), (x, "train.head.steps.weight")):
        facts = torch.log(torch.sigmoid(F.linear(at, w(head)) * X["fact"]) + 1e-9)
        loss = loss - ask["steps_weight"] * (facts * X["fact_weight"]).sum() / (X["fact_weight"].sum() + 1e-3)
    said = F.linear(early, w("train.head.frames.weight"))
    loss = loss + ask["frames_weight"] * bowl(said[..., :2] - X["frame_target"], X["frame_weight"])
    loss = loss - ask["moment_weight"] * (F.log_softmax(said[..., 2] + X["moment_mask"], -1) * X["moment"]).sum(1).mean()

    line = w("model.image_newline")
    video = torch.stack([X["images"], line.expand(X["images"].shape[0], -1)], 1).reshape(-1, D)
    x = torch.cat([X["head"].expand(n, -1, -1), lin(x, "qformer_to_language_projection"), X["middle"].expand(n, -1, -1), video.expand(n, -1, -1), X["tail"]], 1)
    x = x.reshape(-1, D)[X["order"]].reshape(x.shape)
    size, count, keys = D // ask["heads"], ask["heads"], ask["kv_heads"]
    angle = torch.arange(x.shape[1])[:, None] / ask["theta"] ** (torch.arange(0, size, 2) / size)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

    def turn(t):
        return t * cos + torch.cat([-t[..., size // 2:], t[..., :size // 2]], -1) * sin

    for i in range(ask["layers"]):
        p = f"model.layers.{i}."
        h = F.rms_norm(x, (D,), w(p + "input_layernorm.weight"), 1e-6)
        q, k, v = (heads(lin(h, p + f"self_attn.{name}_proj"), m) for name, m in (("q", count), ("k", keys), ("v", keys)))
        q, k, v = turn(q), turn(k).repeat_interleave(count // keys, 1), v.repeat_interleave(count // keys, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + lin(a.transpose(1, 2).reshape(x.shape), p + "self_attn.o_proj")
        h = F.rms_norm(x, (D,), w(p + "post_attention_layernorm.weight"), 1e-6)
        x = x + lin(F.silu(lin(h, p + "mlp.gate_proj")) * lin(h, p + "mlp.up_proj"), p + "mlp.down_proj")
    x = F.rms_norm(x, (D,), w("model.norm.weight"), 1e-6)
    logits = F.linear(x.reshape(-1, D)[X["at"]], w("lm_head.weight"))
    return loss + F.cross_entropy(logits, X["label"])


def run():
    for x in W.values():
        x.grad = None
    loss = step()
    loss.backward()
    return loss.item()


def peak(size=2048):
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


loss = run()
with FlopCounterMode(display=False) as counter:
    run()
told = {"torch": torch.__version__, "loss": loss, "largest": {k: x.grad.abs().max().item() for k, x in W.items()}}
print(json.dumps(told | {"flops": counter.get_total_flops(), "peak": peak()}), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start, flush=True)
