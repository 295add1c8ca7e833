"""GPT-2 and Llama as plain modules that train fast: packed projections, scaled_dot_product_attention, bf16 residuals.

Loaded from a model folder of Lathe's. forward(tokens, targets) is the mean cross-entropy in nats.
"""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of x [N, C] times table [V, C], never holding all logits: gradients are made with the loss.

    F.linear_cross_entropy does so too, but sums the loss in bf16 and takes chunks of 64 rows for GPT-2's vocabulary.
    """

    ROWS = 512

    @staticmethod
    def forward(ctx, x, table, targets):
        loss = x.new_zeros((), dtype=torch.float32)
        d_x, d_table = torch.empty_like(x), torch.zeros_like(table)
        for begin in range(0, len(x), ChunkedLoss.ROWS):
            rows = slice(begin, begin + ChunkedLoss.ROWS)
            picked = targets[rows].unsqueeze(1)
            log_p = torch.log_softmax((x[rows] @ table.t()).float(), 1)
            loss -= log_p.gather(1, picked).sum()
            d_logits = log_p.exp().scatter_add(1, picked, log_p.new_full(picked.shape, -1.0))
            d_logits = (d_logits / len(x)).to(x.dtype)
            d_x[rows] = d_logits @ table
            d_table.addmm_(d_logits.t(), x[rows])
        ctx.save_for_backward(d_x, d_table)
        return loss / len(x)

    @staticmethod
    def backward(ctx, d_loss):
        d_x, d_table = ctx.saved_tensors
        return d_x * d_loss.to(d_x.dtype), d_table * d_loss.to(d_table.dtype), None


class Norm(nn.Module):
    def __init__(self, kind, channels, epsilon):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels)) if kind == "gpt2" else None

    def forward(self, x):
        if self.bias is None:
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


def rotate(x, cosines, sines):
    """Half-split rotary positions of x [B, H, T, D]; cosines and sines [T, D]."""
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat((-second, first), -1) * sines


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.size = c["heads"], c["kv_heads"], c["channels"] // c["heads"]
        gpt2, channels, width = c["kind"] == "gpt2", c["channels"], c["feed_forward"]
        self.gpt2 = gpt2
        self.attention_norm = Norm(c["kind"], channels, c["epsilon"])
        self.qkv = nn.Linear(channels, (self.heads + 2 * self.kv_heads) * self.size, bias=gpt2)
        self.output = nn.Linear(channels, channels, bias=gpt2)
        self.mlp_norm = Norm(c["kind"], channels, c["epsilon"])
        self.up = nn.Linear(channels, width if gpt2 else 2 * width, bias=gpt2)
        self.down = nn.Linear(width, channels, bias=gpt2)

    def attention(self, x, rotary):
        batch, time, channels = x.shape
        qkv = self.qkv(x).view(batch, time, -1, self.size).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), 1)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return self.output(y.transpose(1, 2).reshape(batch, time, channels))

    def mlp(self, x):
        if self.gpt2:
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)

    def forward(self, x, rotary):
        x = x + self.attention(self.attention_norm(x), rotary)
        return x + self.mlp(self.mlp_norm(x))


class Model(nn.Module):
    def __init__(self, c, compute, chunked):
        super().__init__()
        self.compute, self.chunked = compute, chunked
        self.tokens = nn.Embedding(c["vocabulary"], c["channels"])
        self.positions = nn.Embedding(c["length"], c["channels"]) if c["kind"] == "gpt2" else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.final_norm = Norm(c["kind"], c["channels"], c["epsilon"])
        self.rotary = None  # cosines and sines [context length, D]

    def forward(self, tokens, targets):
        time = tokens.shape[1]
        x, rotary = self.tokens(tokens), None
        if self.positions is not None:
            x = x + self.positions.weight[:time]
        else:
            rotary = [table[:time] for table in self.rotary]
        x = x.to(self.compute)
        for block in self.blocks:
            x = block(x, rotary)
        x = self.final_norm(x).flatten(0, 1)
        if self.chunked:
            return ChunkedLoss.apply(x, self.tokens.weight.to(self.compute), targets.flatten())
        return F.cross_entropy(F.linear(x, self.tokens.weight).float(), targets.flatten())


def configuration(folder):
    json_ = json.loads((folder / "config.json").read_text())
    assert json_["tie_word_embeddings"]
    if json_["model_type"] == "gpt2":
        return {"kind": "gpt2", "vocabulary": json_["vocab_size"], "length": json_["n_positions"],
                "layers": json_["n_layer"], "channels": json_["n_embd"], "heads": json_["n_head"],
                "kv_heads": json_["n_head"], "feed_forward": json_["n_inner"], "epsilon": json_["layer_norm_epsilon"]}
    assert json_["model_type"] == "llama"
    return {"kind": "llama", "vocabulary": json_["vocab_size"], "length": json_["max_position_embeddings"],
            "layers": json_["num_hidden_layers"], "channels": json_["hidden_size"],
            "heads": json_["num_attention_heads"], "kv_heads": json_["num_key_value_heads"],
            "feed_forward": json_["intermediate_size"], "epsilon": json_["rms_norm_eps"], "theta": json_["rope_theta"]}


def gpt2_weights(w, layers):
    yield "tokens.weight", w["transformer.wte.weight"]
    yield "positions.weight", w["transformer.wpe.weight"]
    names = {"ln_1": "attention_norm", "attn.c_attn": "qkv", "attn.c_proj": "output", "ln_2": "mlp_norm",
             "mlp.c_fc": "up", "mlp.c_proj": "down"}
    for i in range(layers):
        for theirs, ours in names.items():
            weight = w[f"transformer.h.{i}.{theirs}.weight"]
            yield f"blocks.{i}.{ours}.weight", weight.t() if weight.ndim == 2 else weight  # stored [in, out]
            yield f"blocks.{i}.{ours}.bias", w[f"transformer.h.{i}.{theirs}.bias"]
    for part in ("weight", "bias"):
        yield f"final_norm.{part}", w[f"transformer.ln_f.{part}"]


def llama_weights(w, layers):
    yield "tokens.weight", w["model.embed_tokens.weight"]
    names = {"attention_norm": ["input_layernorm"], "qkv": [f"self_attn.{x}_proj" for x in "qkv"],
             "output": ["self_attn.o_proj"], "mlp_norm": ["post_attention_layernorm"],
             "up": ["mlp.gate_proj", "mlp.up_proj"], "down": ["mlp.down_proj"]}
    for i in range(layers):
        for ours, theirs in names.items():
            yield f"blocks.{i}.{ours}.weight", torch.cat([w[f"model.layers.{i}.{name}.weight"] for name in theirs])
    yield "final_norm.weight", w["model.norm.weight"]


def rotary_tables(c, compute):
    size = c["channels"] // c["heads"]
    frequencies = c["theta"] ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(c["length"], dtype=torch.float64), frequencies).repeat(1, 2)
    return angles.cos().to(compute), angles.sin().to(compute)


def load(folder, parameters, compute, chunked):
    """The model of `folder` with parameters of that type, computing in `compute`."""
    c = configuration(folder)
    with torch.device("meta"):
        model = Model(c, compute, chunked)
    stored = {}
    for path in sorted(folder.glob("model*.safetensors")):
        stored |= load_file(path)
    weights = gpt2_weights(stored, c["layers"]) if c["kind"] == "gpt2" else llama_weights(stored, c["layers"])
    # Copied, as what is mapped from the file would be read during the first step.
    weights = {name: weight.to(parameters, copy=True).contiguous() for name, weight in weights}
    model.load_state_dict(weights, assign=True)
    if c["kind"] == "llama":
        model.rotary = rotary_tables(c, compute)
    return model
