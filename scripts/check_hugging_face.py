"""Models go from transformers to Lathe and back, and the logits stay.

For each family: transformers saves a random model (whole, in shards, in bf16) -> lathe logits on that folder and on what
lathe import makes of it -> lathe export -> transformers loads it: the same weights bit for bit, the same tokenizer, the
same logits. And Lathe trains a model of the family: transformers loads its checkpoint and its export.
"""

import logging
import pathlib
import subprocess
import sys
import tempfile

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

BATCH, TIME = 3, 29
# The same for logits as the golden files ask of gradients: two orders of magnitude above what f32 leaves in such small models.
TOLERANCE = 1e-5
TEXT = "It is a truth universally acknowledged, that a program must be in want of a test. Grüße, 世界! 🙂\n"

COMMON = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.15}
FAMILIES = {
    "gpt2": lambda v: transformers.GPT2Config(vocab_size=v, n_positions=64, n_embd=48, n_layer=3, n_head=4, **COMMON),
    "llama": lambda v: transformers.LlamaConfig(vocab_size=v, hidden_size=48, intermediate_size=112,
                                                num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
                                                max_position_embeddings=64, **COMMON),
    "qwen2": lambda v: transformers.Qwen2Config(vocab_size=v, hidden_size=48, intermediate_size=80,
                                                num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                                max_position_embeddings=64, tie_word_embeddings=True, **COMMON),
    "bloom": lambda v: transformers.BloomConfig(vocab_size=v, hidden_size=48, n_layer=3, n_head=6, seq_length=64,
                                                **COMMON),
}
TRAINED = {
    "gpt2": ["--norm", "layernorm", "--positions", "learned", "--mlp", "gelu-tanh", "--biases", "all",
             "--tied-embeddings", "true"],
    "llama": ["--kv-heads", "2"],
    "qwen2": ["--kv-heads", "1", "--biases", "qkv", "--tied-embeddings", "true"],
    "bloom": ["--norm", "layernorm", "--positions", "alibi", "--mlp", "gelu-tanh", "--biases", "all",
              "--embedding-norm", "true", "--tied-embeddings", "true"],
}


class Checker:
    def __init__(self, lathe, work):
        self.lathe, self.work = lathe, work
        self.failures = 0

    def run(self, *arguments):
        command = [self.lathe, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit code {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def expect(self, condition, text):
        print(f"  {'ok  ' if condition else 'FAIL'} {text}")
        self.failures += not condition

    def lathe_logits(self, model, tokens):
        save_file({"tokens": tokens.int()}, self.work / "tokens.safetensors")
        self.run("logits", "--model", model, "--dtype", "f32", "--input", self.work / "tokens.safetensors",
                 "--output", self.work / "logits.safetensors")
        return load_file(self.work / "logits.safetensors")["logits"].double()

    def expect_same_logits(self, ours, theirs, text):
        error = ((ours - theirs).norm() / theirs.norm()).item()
        self.expect(ours.shape == theirs.shape and error < TOLERANCE, f"{text}: logits differ by {error:.1e}")


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(model, tokens):
    with torch.no_grad():
        return model(tokens).logits.double()


def make_tokenizer(path):
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([TEXT] * 10, vocab_size=300, min_frequency=2, special_tokens=["<|endoftext|>"],
                                  show_progress=False)
    tokenizer.save(str(path))
    return tokenizer.get_vocab_size()


def check_round_trip(checker, family, tokenizer, vocabulary, storage):
    torch.manual_seed(5)
    folder = checker.work / f"{family}-{storage}"
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family](vocabulary)).eval()
    for parameter in model.parameters():  # also biases and norms must matter
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    if storage == "bf16":
        model.bfloat16()
    model.save_pretrained(folder, max_shard_size="60KB" if storage == "shards" else "1GB")
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    shards = len(list(folder.glob("*.safetensors")))
    assert (shards > 1) == (storage == "shards"), shards
    model = load(folder)
    tokens = torch.randint(0, vocabulary, (BATCH, TIME))
    theirs = logits_of(model, tokens)

    label = f"{family} {storage}"
    imported, exported = checker.work / f"{label}-imported", checker.work / f"{label}-exported"
    checker.run("import", "--input", folder, "--output", imported)
    checker.run("export", "--checkpoint", imported, "--output", exported)
    checker.expect_same_logits(checker.lathe_logits(folder, tokens), theirs, f"{label}: transformers' folder")
    checker.expect_same_logits(checker.lathe_logits(imported, tokens), theirs, f"{label}: imported")
    checker.expect(torch.equal(logits_of(load(imported), tokens), theirs), f"{label}: transformers loads the import")
    back = load(exported)
    checker.expect(torch.equal(logits_of(back, tokens), theirs), f"{label}: transformers loads the export")
    before, after = model.state_dict(), back.state_dict()
    checker.expect(before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before),
                   f"{label}: the weights are the same bits")
    ids = transformers.AutoTokenizer.from_pretrained(exported)(TEXT)["input_ids"]
    checker.expect(ids == tokenizers.Tokenizer.from_file(str(tokenizer)).encode(TEXT).ids,
                   f"{label}: transformers' tokenizer gives the same ids")


def check_trained(checker, family, data):
    run, exported = checker.work / f"{family}-run", checker.work / f"{family}-run-exported"
    checker.run("train", "--data", data, "--output", run, "--steps", 5, "--layers", 2, "--channels", 48, "--heads", 4,
                "--feed-forward", 192, "--sequence-length", 32, "--micro-batch", 2, "--global-batch", 4,
                "--learning-rate", 0.01, "--dtype", "f32", *TRAINED[family])
    checker.run("export", "--checkpoint", run, "--output", exported)
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    model = load(exported)
    checker.expect(model.config.model_type == family, f"{family} trained by Lathe: exported as {family}")
    tokens = torch.randint(0, model.config.vocab_size, (BATCH, TIME))
    ours = checker.lathe_logits(run, tokens)
    checker.expect_same_logits(logits_of(model, tokens), ours, f"{family} trained by Lathe: export")
    stored = load(checkpoint)
    checker.expect_same_logits(logits_of(stored, tokens), ours, f"{family} trained by Lathe: checkpoint")
    end = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json")).token_to_id("<|endoftext|>")
    for name, config in (("export", model.config), ("checkpoint", stored.config)):
        checker.expect(end is not None and config.eos_token_id == end and config.bos_token_id == end,
                       f"{family} trained by Lathe: end-of-text is token {end} in the {name}")


def main():
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        checker = Checker(sys.argv[1], pathlib.Path(name))
        tokenizer = checker.work / "tokenizer.json"
        vocabulary = make_tokenizer(tokenizer)
        text, data = checker.work / "text.txt", checker.work / "data"
        text.write_text(TEXT * 400)
        checker.run("prepare", "--input", text, "--output", data, "--tokenizer", tokenizer)
        for family in FAMILIES:
            print(family)
            for storage in ("whole", "shards", "bf16"):
                check_round_trip(checker, family, tokenizer, vocabulary, storage)
            check_trained(checker, family, data)
        print("all the same" if checker.failures == 0 else f"{checker.failures} differences")
        sys.exit(checker.failures != 0)


if __name__ == "__main__":
    main()
