// The main job, as a user does it: prepare, train, evaluate, generate, export, import.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/small_corpus.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<json> metrics_of(const std::string& run_folder) {
    std::vector<json> records;
    std::ifstream file(fs::path(run_folder) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
        records.push_back(json::parse(line));
    }
    return records;
}

TEST(EndToEnd, ATransformerLearnsAndSpeaks) {
    const TemporaryFolder folder;
    const std::string data = prepare_small_data(folder);
    const std::string run = folder / "run";
    const ProcessResult trained = run_lathe({"train", "--data",
                                             data,    "--output",
                                             run,     "--steps",
                                             "60",    "--layers",
                                             "2",     "--channels",
                                             "64",    "--heads",
                                             "4",     "--feed-forward",
                                             "160",   "--sequence-length",
                                             "48",    "--micro-batch",
                                             "8",     "--global-batch",
                                             "16",    "--learning-rate",
                                             "0.005", "--validation-every",
                                             "30",    "--checkpoint-every",
                                             "20",    "--checkpoint-keep",
                                             "1"});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;

    const std::vector<json> metrics = metrics_of(run);
    ASSERT_EQ(metrics.size(), 60U);
    for (const char* key : {"step", "loss", "learning_rate", "gradient_norm", "tokens",
                            "tokens_per_second", "utilization"}) {
        EXPECT_TRUE(metrics.back().contains(key)) << key;
    }
    EXPECT_EQ(metrics.back().at("tokens"), 60 * 16 * 48);
    EXPECT_TRUE(metrics[29].contains("validation_loss"));
    EXPECT_FALSE(metrics[28].contains("validation_loss"));

    const json memory = json::parse(std::ifstream(fs::path(run) / "memory.json"));
    EXPECT_EQ(memory.at("step"), 60);
    EXPECT_EQ(memory.at("ranks"), 1);
    for (const char* category : {"parameters", "gradients", "optimizer"}) {
        const json& peak = memory.at("peak_bytes").at(category);
        EXPECT_GT(peak.at("max"), 0) << category;
        EXPECT_EQ(peak.at("max"), peak.at("formula").at("max")) << category;
    }

    // Far below what a model that ignores context reaches: the corpus is a small grammar.
    const double unigram =
        json::parse(std::ifstream(fs::path(data) / "dataset.json")).at("unigram_entropy");
    const ProcessResult evaluated =
        run_lathe({"evaluate", "--model", run, "--data", data, "--json"});
    ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
    const double loss = json::parse(evaluated.out).at("loss");
    EXPECT_LT(loss, 0.7 * unigram);

    const std::vector<std::string> generate = {
        "generate", "--model", run, "--prompt", "the old king", "--tokens", "80", "--seed", "3"};
    const ProcessResult text = run_lathe(generate);
    ASSERT_EQ(text.exit_code, 0) << text.err;
    EXPECT_TRUE(text.out.starts_with("the old king"));
    EXPECT_EQ(run_lathe(generate).out, text.out) << "the same seed gives the same text";

    std::vector<std::string> timed = generate;
    timed.emplace_back("--speed");
    const ProcessResult speed = run_lathe(timed);
    EXPECT_EQ(speed.out, text.out) << "measuring changes no text";
    EXPECT_NE(speed.err.find("tokens/s: "), std::string::npos) << speed.err;
    EXPECT_NE(speed.err.find("medians of 79"), std::string::npos)
        << "80 tokens have 79 times from one to the next: " << speed.err;
    std::ranges::replace(timed, "80", "1");
    const ProcessResult one = run_lathe(timed);
    EXPECT_EQ(one.exit_code, 2);
    EXPECT_NE(one.err.find("--tokens 1"), std::string::npos) << one.err;

    ASSERT_EQ(run_lathe({"export", "--checkpoint", run, "--output", folder / "exported"}).exit_code,
              0);
    const ProcessResult again =
        run_lathe({"evaluate", "--model", folder / "exported", "--data", data, "--json"});
    EXPECT_EQ(again.out, evaluated.out);
}

TEST(EndToEnd, FineTuningStartsFromAnExportedModel) {
    const TemporaryFolder folder;
    const std::string data = prepare_small_data(folder);
    const auto train = [&](const std::string& output, std::vector<std::string> more) {
        std::vector<std::string> arguments = {"train", "--data",
                                              data,    "--output",
                                              output,  "--layers",
                                              "1",     "--channels",
                                              "32",    "--heads",
                                              "2",     "--feed-forward",
                                              "64",    "--sequence-length",
                                              "32",    "--micro-batch",
                                              "4",     "--global-batch",
                                              "4",     "--learning-rate",
                                              "0.01"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const ProcessResult result = run_lathe(arguments);
        EXPECT_EQ(result.exit_code, 0) << result.err;
    };
    train(folder / "first", {"--steps", "40"});
    ASSERT_EQ(run_lathe({"export", "--checkpoint", folder / "first", "--output", folder / "model"})
                  .exit_code,
              0);
    train(folder / "second", {"--steps", "1", "--resume", folder / "model"});
    const double first = metrics_of(folder / "first").front().at("loss");
    const double second = metrics_of(folder / "second").front().at("loss");
    EXPECT_LT(second, first - 1.0) << "the second run should begin where the first one ended";
}

TEST(EndToEnd, HelpAndVersion) {
    EXPECT_EQ(run_lathe({"--help"}).exit_code, 0);
    EXPECT_EQ(run_lathe({"--version"}).exit_code, 0);
    for (const char* command :
         {"prepare", "train", "generate", "evaluate", "export", "import", "info", "plan"}) {
        const ProcessResult help = run_lathe({command, "--help"});
        EXPECT_EQ(help.exit_code, 0) << command;
        EXPECT_NE(help.out.find("--"), std::string::npos) << command;
    }
}

}  // namespace
}  // namespace lathe::testing
