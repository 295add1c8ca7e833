"""initial_model.py FOLDER SHAPE_JSON: a Hugging Face folder with random weights, from which both programs begin."""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

CONTEXT = 1024


def config(s):
    common = {"model_type": s["family"], "vocab_size": s["vocabulary"], "tie_word_embeddings": True,
              "initializer_range": 0.02, "torch_dtype": "float32", "bos_token_id": None, "eos_token_id": None}
    if s["family"] == "gpt2":
        return common | {"n_positions": CONTEXT, "n_embd": s["channels"], "n_layer": s["layers"], "n_head": s["heads"],
                         "n_inner": s["feed_forward"], "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    return common | {"max_position_embeddings": CONTEXT, "hidden_size": s["channels"], "num_hidden_layers": s["layers"],
                     "intermediate_size": s["feed_forward"], "num_attention_heads": s["heads"],
                     "num_key_value_heads": s["kv_heads"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
                     "rope_theta": 10000.0}


def gpt2(s):
    """Names and shapes; linear weights are stored [in, out]."""
    channels, width = s["channels"], s["feed_forward"]
    yield "wte.weight", (s["vocabulary"], channels)
    yield "wpe.weight", (CONTEXT, channels)
    for i in range(s["layers"]):
        for name, shape in (("attn.c_attn", (channels, 3 * channels)), ("attn.c_proj", (channels, channels)),
                            ("mlp.c_fc", (channels, width)), ("mlp.c_proj", (width, channels)),
                            ("ln_1", (channels,)), ("ln_2", (channels,))):
            yield f"h.{i}.{name}.weight", shape
            yield f"h.{i}.{name}.bias", shape[-1:]
    yield "ln_f.weight", (channels,)
    yield "ln_f.bias", (channels,)


def llama(s):
    channels, width = s["channels"], s["feed_forward"]
    key = channels // s["heads"] * s["kv_heads"]
    yield "embed_tokens.weight", (s["vocabulary"], channels)
    for i in range(s["layers"]):
        for name, shape in (("self_attn.q_proj", (channels, channels)), ("self_attn.k_proj", (key, channels)),
                            ("self_attn.v_proj", (key, channels)), ("self_attn.o_proj", (channels, channels)),
                            ("mlp.gate_proj", (width, channels)), ("mlp.up_proj", (width, channels)),
                            ("mlp.down_proj", (channels, width)), ("input_layernorm", (channels,)),
                            ("post_attention_layernorm", (channels,))):
            yield f"layers.{i}.{name}.weight", shape
    yield "norm.weight", (channels,)


def main():
    folder, shape = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    prefix, names = ("transformer.", gpt2) if shape["family"] == "gpt2" else ("model.", llama)
    torch.manual_seed(1)
    weights = {}
    for name, size in names(shape):
        matrix = len(size) == 2
        # Norms and biases, too, are no constants, so that the losses depend on them.
        mean = 1.0 if not matrix and name.endswith("weight") else 0.0
        weights[prefix + name] = mean + 0.02 * torch.randn(size)
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(shape), indent=2))


if __name__ == "__main__":
    main()
