"""Compares Lathe's tokenizer with tiktoken and Hugging Face tokenizers.

Run through scripts/compare_tokenizers.sh. Every id, every trained merge and every vocabulary entry must
be equal; the exit code is 1 where one is not.
"""

import argparse
import base64
import json
import random
import shutil
import statistics
import struct
import subprocess
import sys
import sysconfig
import time
import unicodedata
from pathlib import Path

import tiktoken
import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"

TEXTS = [
    "",
    " ",
    "a",
    "Hello, world! It's a test; they'll say we've won, I'm sure you'd agree. DON'T SHOUT, IT'S LATE.",
    "The year 1984, 3.14159 and 1,234,567 or 0x7fff_ffff; 12345678901234567890.",
    "def f(x: int) -> str:\n    if x >= 10:\n\treturn f\"{x!r}\"  # why?\n\n\n    return ''\n",
    "#include <vector>\r\nint main() {\r\n  std::vector<int> v{1,2,3};\r\n  return v[0]&&!v[1];\r\n}\r\n",
    "<div class=\"a-b_c\">&nbsp;https://example.org/a?b=c&d=%20e#f</div>",
    "trailing blanks   \n\n  leading blanks\t\t\ttabs \u00a0\u00a0no-break\u2003em\u3000wide \u180e \u200b end",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。カタカナ ﾊﾝｶｸ",
    "동해 물과 백두산이 마르고 닳도록 하느님이 보우하사 우리나라 만세",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق؟ ٠١٢٣٤٥",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता। १२३",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "ทุกคนเกิดมามีอิสระและเสมอภาคกันในศักดิ์ศรีและสิทธิ",
    "Zażółć gęślą jaźń; cafe\u0301 vs café; Å\u030a; \u1e9e\u017f'\u017f ﬁ ǅ ª º ² ½ Ⅷ ①",
    "👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 😀😃😄 ❤️ ☺︎ 𝕳𝖊𝖑𝖑𝖔 𓀀𓁐 𐍈",
    "\x00\x01\x02\x07\x08\x0b\x0c\x1b[31mred\x1b[0m\x1c\x1d\x1e\x1f\x7f\x80\x85\x9f\u2028\u2029\ufeff\ufffd\ufffe\U0010ffff",
    "∑ᵢ₌₁ⁿ xᵢ² ≤ ∫₀^∞ e^{-x²} dx ⇒ α→β ∀x∈ℝ ≈ √2 ± 1‰",
    "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'VE 'M 'LL 'D ''s '' ' 'x o'clock rock'n'roll ’s",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "====----====____....!!!!????////\\\\\\\\~~~~\n\n \n  \n   \n    x",
    " \n \r\n \t \n\n\n  a  \n  b\n",
    "Antidisestablishmentarianism Donaudampfschifffahrtsgesellschaftskapitaen pneumonoultramicroscopicsilicovolcanoconiosis",
    "not special: <|endoftext|> <|endoftext <|end|>",
]


def random_texts(count, seed):
    """Texts of characters that all three programs' Unicode tables know (Python 3.11: Unicode 14)."""
    rng = random.Random(seed)
    assigned = [
        c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")
    ]
    blocks = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0xDFF),
              (0x2000, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
              (0x1F300, 0x1FAFF)]
    known = set(assigned)
    spaces = [c for c in assigned if c.isspace()]
    texts = []
    for _ in range(count):
        kind = rng.randrange(4)
        text = []
        for _ in range(rng.randrange(1, 60)):
            if kind == 0:
                text.append(rng.choice(assigned))
            elif kind == 1:
                text.append(rng.choice(spaces + list("aA1.'\n ")))
            else:
                low, high = blocks[0] if kind == 2 and rng.random() < 0.7 else rng.choice(blocks)
                text.append(chr(rng.randint(low, high)))
        texts.append("".join(c for c in text if c in known))
    return texts


def read(path):
    """A file's text as it is: read_text would turn carriage returns into line feeds."""
    return Path(path).read_bytes().decode()


def read_shards(folder):
    info = json.loads((folder / "dataset.json").read_text())
    tokens = []
    for shard in info["splits"]["train"]["shards"]:
        data = (folder / shard["file"]).read_bytes()
        magic, _, count = struct.unpack_from("<3i", data)
        tokens += struct.unpack_from(f"<{count}{'H' if magic == 20240520 else 'I'}", data, 1024)
    return tokens


class Lathe:
    def __init__(self, program, work):
        self.program = str(Path(program).resolve())
        self.work = work

    def run(self, *args, text=None):
        result = subprocess.run([self.program, *map(str, args)], input=text, capture_output=True)
        if result.returncode:
            sys.exit(f"lathe {args}: {result.stderr.decode()}")
        return result.stdout

    def prepare(self, inputs, *args):
        output = self.work / "prepared"
        shutil.rmtree(output, ignore_errors=True)
        self.run("prepare", "--input", *inputs, "--output", output, "--validation-fraction", 0, *args)
        return output

    def encode(self, tokenizer, texts):
        """Ids of each text: they go through `lathe prepare`, one document each."""
        path = self.work / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts if text))
        tokens = read_shards(self.prepare([path], "--tokenizer", tokenizer))
        end = Tokenizer.from_file(str(tokenizer)).token_to_id(END_OF_TEXT)
        result, document = [], []
        for token in tokens:
            if token == end:
                result.append(document)
                document = []
            else:
                document.append(token)
        documents = iter(result)
        return [next(documents) if text else [] for text in texts]

    def speed(self, tokenizer, text):
        out = self.run("tokenize", "--tokenizer", tokenizer, "--repeat", 1, text=text)
        return float(out.split()[-2])


class Report:
    def __init__(self):
        self.failed = False

    def compare(self, what, texts, ours, theirs):
        wrong = [i for i, text in enumerate(texts) if ours[i] != theirs[i]]
        tokens = sum(map(len, ours))
        print(f"{'DIFFERENT' if wrong else 'equal':10}{what}: {len(texts)} texts, {tokens} tokens")
        for i in wrong[:3]:
            print(f"    {texts[i]!r}\n    lathe {ours[i]}\n    other {theirs[i]}")
        self.failed |= bool(wrong)

    def same(self, what, equal):
        print(f"{'equal' if equal else 'DIFFERENT':10}{what}")
        self.failed |= not equal


def read_ranks(path):
    lines = path.read_text().splitlines()
    return {base64.b64decode(t): int(r) for t, r in (line.split() for line in lines)}


def merges_of(ranks):
    """A token's merge is the last pair left when it is encoded with the ranks below its own."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [bytes([b]) for b in token]
        while len(parts) > 2:
            options = [(ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1)]
            best, i = min(options)
            assert best < rank, token
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append(tuple(parts))
    return merges


def byte_level(data):
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return "".join(table[b] for b in data)


def split_pre_tokenizer(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def gpt2_pre_tokenizer():
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


PRE_TOKENIZERS = {
    "gpt2": gpt2_pre_tokenizer,
    "llama3": lambda: split_pre_tokenizer(LLAMA3),
    "qwen2": lambda: split_pre_tokenizer(QWEN2),
    "bloom": lambda: split_pre_tokenizer(BLOOM),
    "digits": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), gpt2_pre_tokenizer()]
    ),
}


def hugging_face(vocabulary, merges, pre_tokenizer):
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def compare_gpt2(lathe, report, texts, work):
    ranks = read_ranks(work / "gpt2.tiktoken")
    vocabulary = {byte_level(token): rank for token, rank in ranks.items()}
    merges = [(byte_level(a), byte_level(b)) for a, b in merges_of(ranks)]
    paths = {}
    ordinary = [text for text in texts if END_OF_TEXT not in text]
    for name, make in PRE_TOKENIZERS.items():
        reference = hugging_face(vocabulary, merges, make())
        paths[name] = work / f"gpt2-{name}.json"
        reference.save(str(paths[name]))
        theirs = [encoding.ids for encoding in reference.encode_batch(ordinary)]
        report.compare(f"GPT-2's ranks, {name} pattern, Hugging Face", ordinary,
                       lathe.encode(paths[name], ordinary), theirs)
    for name, pattern in (("gpt2", GPT2), ("llama3", LLAMA3)):
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                                     special_tokens={END_OF_TEXT: 50256})
        report.compare(f"GPT-2's ranks, {name} pattern, tiktoken", texts,
                       lathe.encode(paths[name], texts), [encoding.encode_ordinary(t) for t in texts])
    special = f"one{END_OF_TEXT}two {END_OF_TEXT}{END_OF_TEXT}\n"
    ours = lathe.run("tokenize", "--tokenizer", paths["gpt2"], "--special", text=special.encode())
    theirs = Tokenizer.from_file(str(paths["gpt2"])).encode(special).ids
    report.compare("special tokens in text", [special], [[int(t) for t in ours.split()]], [theirs])
    return paths["gpt2"], ranks


def train_both(lathe, report, name, inputs, vocabulary_size):
    output = lathe.prepare(inputs, "--vocab-size", vocabulary_size, "--pattern", name)
    written = output / "tokenizer.json"
    ours = json.loads(written.read_text())
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = PRE_TOKENIZERS[name]()
    reference.train_from_iterator(
        [read(path) for path in inputs],
        trainers.BpeTrainer(vocab_size=vocabulary_size, special_tokens=[END_OF_TEXT],
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                            show_progress=False))
    theirs = json.loads(reference.to_str())
    pairs = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in theirs["model"]["merges"]]
    our_pairs = [tuple(m.split(" ")) for m in ours["model"]["merges"]]
    what = f"training, {name} pattern, {vocabulary_size} tokens, {len(inputs)} files"
    report.same(f"{what}: {len(our_pairs)} merges", our_pairs == pairs)
    report.same(f"{what}: vocabulary", ours["model"]["vocab"] == theirs["model"]["vocab"])
    return written


def round_trip(lathe, report, written, texts, work):
    """Hugging Face loads what Lathe wrote and writes it in its own form; Lathe reads that."""
    reference = Tokenizer.from_file(str(written))
    again = work / "resaved.json"
    reference.save(str(again))
    ordinary = [text for text in texts if END_OF_TEXT not in text]
    theirs = [encoding.ids for encoding in reference.encode_batch(ordinary)]
    report.compare("the file Lathe wrote", ordinary, lathe.encode(written, ordinary), theirs)
    report.compare("the same after Hugging Face", ordinary, lathe.encode(again, ordinary), theirs)
    decoded = [reference.decode(ids, skip_special_tokens=False) for ids in theirs]
    report.same("Hugging Face decodes Lathe's ids to the text", decoded == ordinary)


def speed_table(lathe, tokenizer, ranks, texts, rounds):
    encoding = tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks,
                                 special_tokens={END_OF_TEXT: 50256})
    reference = Tokenizer.from_file(str(tokenizer))
    print("\nencoding with GPT-2's ranks, one thread, MB/s (median of alternating runs)")
    print(f"{'text':10}{'lathe':>10}{'tiktoken':>10}{'tokenizers':>12}{'lathe/tiktoken':>16}")
    for name, text in texts.items():
        data = text.encode()
        speeds = {"lathe": [], "tiktoken": [], "tokenizers": []}
        for _ in range(rounds):
            speeds["lathe"].append(lathe.speed(tokenizer, data))
            start = time.perf_counter()
            encoding.encode_ordinary(text)
            speeds["tiktoken"].append(len(data) / 1e6 / (time.perf_counter() - start))
            start = time.perf_counter()
            reference.encode(text)
            speeds["tokenizers"].append(len(data) / 1e6 / (time.perf_counter() - start))
        a, b, c = (statistics.median(values) for values in speeds.values())
        print(f"{name:10}{a:10.1f}{b:10.1f}{c:12.1f}{a / b:16.1f}")


def write_golden(lathe, report, folder, inputs):
    """Small trained tokenizers and the ids that tiktoken and Hugging Face agree on."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = TEXTS + random_texts(40, seed=7)
    texts = [text for text in texts if END_OF_TEXT not in text]
    golden = [{"text": text} for text in texts]
    for name, pattern in (("gpt2", GPT2), ("llama3", LLAMA3)):
        written = train_both(lathe, report, name, inputs, 2000)
        path = folder / f"{name}.tokenizer.json"
        shutil.copy(written, path)
        reference = Tokenizer.from_file(str(path))
        ids = [encoding.ids for encoding in reference.encode_batch(texts)]
        for case, case_ids in zip(golden, ids):
            case[name] = case_ids
        report.compare(f"golden ids, {name}", texts, lathe.encode(path, texts), ids)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in golden)
    (folder / "cases.json").write_text(f"[\n{lines}\n]\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lathe", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--golden", type=Path, help="write golden files to this folder")
    parser.add_argument("--quick", action="store_true", help="fewer random texts and timed rounds")
    args = parser.parse_args()
    print(f"tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}")
    lathe = Lathe(args.lathe, args.work)
    report = Report()
    english = args.work / "english.txt"
    library = Path(sysconfig.get_path("stdlib"))
    code = args.work / "code.txt"
    sources = sorted(library.glob("*.py"))
    code.write_bytes(b"".join(path.read_bytes() for path in sources))
    varied = args.work / "varied.txt"
    varied.write_text("\n".join(TEXTS * 20 + random_texts(2000, seed=3)), newline="")

    if args.golden:
        write_golden(lathe, report, args.golden, [english, code, varied])
        return int(report.failed)
    texts = TEXTS + random_texts(300 if args.quick else 20000, seed=1)
    texts += [read(english), read(code), read(varied)]
    tokenizer, ranks = compare_gpt2(lathe, report, texts, args.work)
    for inputs in ([english], [english, code, varied]):
        for name in ("gpt2", "llama3"):
            written = train_both(lathe, report, name, inputs, 4353)
            kept = args.work / "trained.json"
            shutil.copy(written, kept)
            round_trip(lathe, report, kept, texts, args.work)
    speed_table(lathe, tokenizer, ranks,
                {"English": read(english), "code": read(code), "varied": read(varied)},
                3 if args.quick else 9)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
