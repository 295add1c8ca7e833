// lathe tokenize: text to token ids and back, on standard input and output.
#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "data/tokenizer.h"
#include "kernels/error.h"

namespace lathe {
namespace {

struct TokenizeOptions {
    std::filesystem::path tokenizer;
    bool decode = false;
    bool special = false;
    int num_threads = 1;
    int repeat = 0;
};

std::vector<int32_t> read_ids(const std::string& text) {
    std::vector<int32_t> ids;
    size_t at = 0;
    while ((at = text.find_first_not_of(" \n\t\r", at)) != std::string::npos) {
        const size_t end = std::min(text.find_first_of(" \n\t\r", at), text.size());
        const std::string word = text.substr(at, end - at);
        size_t used = 0;
        try {
            ids.push_back(std::stoi(word, &used));
        } catch (const std::exception&) {
            used = 0;
        }
        LATHE_CHECK_USAGE(used == word.size(), "standard input: '{}' is not a token id", word);
        at = end;
    }
    return ids;
}

void time_encoding(const Tokenizer& tokenizer, const std::string& text,
                   const TokenizeOptions& options) {
    for (int i = 0; i < options.repeat; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const auto ids = tokenizer.encode_parallel(text, options.num_threads);
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        fmt::print("{} tokens, {:.2f} MB/s\n", ids.size(),
                   static_cast<double>(text.size()) / 1e6 / elapsed.count());
    }
}

int run_tokenize(const TokenizeOptions& options) {
    const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
    const std::string text{std::istreambuf_iterator<char>(std::cin),
                           std::istreambuf_iterator<char>()};
    if (options.decode) {
        const std::string bytes = tokenizer.decode(read_ids(text));
        std::cout.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    } else if (options.repeat > 0) {
        time_encoding(tokenizer, text, options);
    } else {
        const auto special = options.special ? SpecialText::kTokens : SpecialText::kOrdinary;
        std::string line;
        for (const int32_t id : tokenizer.encode_parallel(text, options.num_threads, special)) {
            line += fmt::format("{} ", id);
        }
        if (!line.empty()) line.back() = '\n';
        std::cout << line;
    }
    LATHE_CHECK(std::cout.flush().good(), "cannot write to standard output");
    return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
    CLI::App* sub = app.add_subcommand("tokenize", "Text on standard input to token ids");
    const auto options = std::make_shared<TokenizeOptions>();
    sub->add_option("--tokenizer", options->tokenizer, "A Hugging Face tokenizer.json")->required();
    CLI::Option* decode =
        sub->add_flag("--decode", options->decode, "Token ids on standard input to text");
    sub->add_flag("--special", options->special,
                  "Text that spells a special token becomes that token")
        ->excludes(decode);
    sub->add_option("--threads", options->num_threads, "Threads to use; 0 for all cores")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    sub->add_option("--repeat", options->repeat,
                    "Encode this often and print the speed, not the ids")
        ->check(CLI::NonNegativeNumber)
        ->excludes(decode);
    sub->callback([&action, options] { action = [options] { return run_tokenize(*options); }; });
}

}  // namespace lathe
