// lathe prepare: text to token shards.
#include "data/prepare.h"

#include <fmt/core.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace lathe {
namespace {

/// 1234567 as 1,234,567.
std::string grouped(int64_t number) {
    const std::string digits = std::to_string(number);
    std::string text;
    for (size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
        text += digits[i];
    }
    return text;
}

void print_split(const std::string& name, const SplitInfo& split) {
    if (split.num_tokens == 0) {
        fmt::print("{:<12}none\n", name);
        return;
    }
    fmt::print("{:<12}{} documents, {} bytes, {} tokens ({:.3f} bytes a token), {} shard{}\n", name,
               grouped(split.num_documents), grouped(split.num_bytes), grouped(split.num_tokens),
               static_cast<double>(split.num_bytes) / static_cast<double>(split.num_tokens),
               split.shards.size(), split.shards.size() == 1 ? "" : "s");
}

int run_prepare(const PrepareOptions& options) {
    const auto start = std::chrono::steady_clock::now();
    const PrepareResult result = prepare(options);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    const DatasetInfo& info = result.info;
    fmt::print("{:<12}{} tokens{}\n", "vocabulary", grouped(info.vocabulary_size),
               options.tokenizer ? "" : ", trained on the training text only");
    for (const char* name : {"train", "validation"}) print_split(name, info.splits.at(name));
    if (info.unigram_entropy > 0.0) {
        fmt::print("{:<12}{:.4f} nats a token: the validation loss of a model without context\n",
                   "unigram", info.unigram_entropy);
    }
    if (result.was_finished) {
        fmt::print("{:<12}already prepared, nothing to do\n", options.output.string());
    } else {
        fmt::print("written to {} in {:.1f} s\n", options.output.string(), elapsed.count());
    }
    return 0;
}

}  // namespace

void add_prepare(CLI::App& app, Action& action) {
    CLI::App* sub = app.add_subcommand("prepare", "Turn text into a tokenizer and token shards");
    const auto options = std::make_shared<PrepareOptions>();
    sub->add_option("--input", options->corpus.inputs,
                    "Text files, or JSONL files with one {\"text\": ...} a line")
        ->required();
    sub->add_option("--output", options->output, "The data folder to make")->required();
    CLI::Option* tokenizer =
        sub->add_option("--tokenizer", options->tokenizer,
                        "Use this Hugging Face tokenizer.json instead of training one");
    sub->add_option("--vocab-size", options->vocabulary_size,
                    "Tokens to train, special ones and the 256 bytes included")
        ->capture_default_str()
        ->excludes(tokenizer);
    const std::map<std::string, SplitPattern> patterns = {{"gpt2", SplitPattern::kGpt2},
                                                          {"llama3", SplitPattern::kLlama3}};
    sub->add_option("--pattern", options->pattern, "How text is split into words: gpt2 or llama3")
        ->transform(CLI::CheckedTransformer(patterns))
        ->default_str("gpt2")
        ->excludes(tokenizer);
    sub->add_option("--tokenizer-bytes", options->tokenizer_bytes,
                    "Train the tokenizer on a sample of about this many bytes where there is more")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->excludes(tokenizer);
    const std::map<std::string, CorpusFormat> formats = {{"auto", CorpusFormat::kAuto},
                                                         {"text", CorpusFormat::kText},
                                                         {"jsonl", CorpusFormat::kJsonl}};
    sub->add_option("--format", options->corpus.format,
                    "auto (by the name: .jsonl or text), text or jsonl")
        ->transform(CLI::CheckedTransformer(formats))
        ->default_str("auto");
    sub->add_option("--validation-fraction", options->corpus.validation_fraction,
                    "Share of the text to hold out, 0 to 0.5, before any tokenizer is trained")
        ->check(CLI::Range(0.0, 0.5))
        ->capture_default_str();
    sub->add_option("--seed", options->corpus.seed, "Chooses what is held out")
        ->capture_default_str();
    sub->add_option("--shard-tokens", options->tokens_per_shard, "Tokens in one shard file")
        ->check(CLI::Range(int64_t{1}, kMaxShardTokens))
        ->capture_default_str();
    sub->add_option("--threads", options->num_threads, "Threads to use; 0 for all cores")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    sub->callback([&action, options] { action = [options] { return run_prepare(*options); }; });
}

}  // namespace lathe
