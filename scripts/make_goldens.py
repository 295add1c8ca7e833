"""Golden files from transformers and torch.optim.AdamW, computed in float64.

For each family a folder OUTPUT/FAMILY: config.json and model.safetensors as transformers saves a tiny random model
(f32), and golden.safetensors with, all in f64 but the tokens:
  tokens, targets [11, B, T] int32   one batch for each step
  logits [B, T, V]                   of batch 0
  gradient.NAME                      of the mean cross-entropy of batch 0
  losses [11]                        loss of batch i after i steps of AdamW
  adamw [5]                          its learning rate, beta1, beta2, epsilon and weight decay (of matrices only)
"""

import contextlib
import logging
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

BATCH, TIME, STEPS = 2, 16, 10  # B T is a power of two: its inverse is exact in f32
# Exact in f32, in which Lathe keeps them.
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY = 2.0**-7, (0.875, 0.9375), 2.0**-27, 0.125
NORM_EPSILON = 2.0**-17


def configs():
    common = {"initializer_range": 0.25, "bos_token_id": 0, "eos_token_id": 0}
    llama = dict(hidden_act="silu", rms_norm_eps=NORM_EPSILON, max_position_embeddings=20, num_hidden_layers=2,
                 **common)
    no_dropout = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return {
        "gpt2": transformers.GPT2Config(vocab_size=50, n_positions=20, n_embd=24, n_layer=2, n_head=3, n_inner=40,
                                        layer_norm_epsilon=NORM_EPSILON, **no_dropout, **common),
        "llama": transformers.LlamaConfig(vocab_size=53, hidden_size=24, intermediate_size=36, num_attention_heads=4,
                                          num_key_value_heads=2, tie_word_embeddings=False, **llama),
        "qwen2": transformers.Qwen2Config(vocab_size=64, hidden_size=16, intermediate_size=28, num_attention_heads=4,
                                          num_key_value_heads=1, tie_word_embeddings=True, **llama),
        "bloom": transformers.BloomConfig(vocab_size=50, hidden_size=18, n_layer=2, n_head=6,
                                          layer_norm_epsilon=NORM_EPSILON, seq_length=20, **common),
    }


@contextlib.contextmanager
def everything_in_float64():
    """transformers computes norms, softmax and rotary tables in torch.float32 whatever the model's type is."""
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved


def randomize(model, generator):
    """Norm weights around 1, biases and matrices around 0, large enough that no gradient is tiny."""
    for name, parameter in model.named_parameters():
        value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.25
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.data.copy_(value + 1.0 if is_norm else value)


def mean_loss(model, tokens, targets):
    logits = model(tokens.long(), use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long()), logits


def check_precision(model, tokens, targets):
    """Any rounding to f32 on the way would spoil a central difference with a step of 1e-5."""
    generator = torch.Generator().manual_seed(3)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in model.parameters()]
    slope = sum((p.grad * d).sum() for p, d in zip(model.parameters(), directions)).item()

    def loss_at(step):
        with torch.no_grad():
            for p, d in zip(model.parameters(), directions):
                p.add_(d, alpha=step)
            loss = mean_loss(model, tokens, targets)[0].item()
            for p, d in zip(model.parameters(), directions):
                p.sub_(d, alpha=step)
        return loss

    h = 1e-5
    coarse, fine = [(loss_at(s) - loss_at(-s)) / (2 * s) for s in (2 * h, h)]
    measured = (4 * fine - coarse) / 3
    error = abs(measured - slope) / abs(slope)
    assert error < 1e-8, f"the reference is not computed in float64: {measured} against {slope}"
    return error


def train(model, tokens, targets):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": WEIGHT_DECAY},
                                   {"params": vectors, "weight_decay": 0.0}],
                                  lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
    losses = []
    for step in range(STEPS + 1):
        optimizer.zero_grad()
        loss, _ = mean_loss(model, tokens[step], targets[step])
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64)


def make(family, config, folder, generator):
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomize(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model.double()
    shape = (STEPS + 1, BATCH, TIME)
    # Few different targets, so that ten steps learn something.
    tokens = torch.randint(0, config.vocab_size, shape, generator=generator, dtype=torch.int32)
    targets = torch.randint(0, config.vocab_size, shape, generator=generator, dtype=torch.int32) // 4 * 3
    with everything_in_float64():
        if family in ("llama", "qwen2"):
            model.model.rotary_emb = type(model.model.rotary_emb)(config)
        loss, logits = mean_loss(model, tokens[0], targets[0])
        assert logits.dtype == torch.float64
        loss.backward()
        error = check_precision(model, tokens[0], targets[0])
        golden = {"gradient." + name: p.grad.clone() for name, p in model.named_parameters()}
        losses = train(model, tokens, targets)
    golden |= {"tokens": tokens, "targets": targets, "logits": logits.detach(), "losses": losses}
    golden["adamw"] = torch.tensor([LEARNING_RATE, *BETAS, EPSILON, WEIGHT_DECAY], dtype=torch.float64)
    save_file(golden, folder / "golden.safetensors")
    print(f"{family}: {sum(p.numel() for p in model.parameters())} parameters, loss {losses[0]:.4f} -> "
          f"{losses[-1]:.4f}, error of the slope {error:.1e}")


def main():
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    output = pathlib.Path(sys.argv[1])
    for index, (family, config) in enumerate(configs().items()):
        folder = output / family
        folder.mkdir(parents=True, exist_ok=True)
        make(family, config, folder, torch.Generator().manual_seed(20 + index))


if __name__ == "__main__":
    main()
