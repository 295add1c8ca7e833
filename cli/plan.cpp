// lathe plan: memory, time and cost of a run, without the hardware.
#include <fmt/core.h>

#include <memory>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/run_options.h"
#include "data/dataset.h"
#include "kernels/files.h"
#include "plan/calibration.h"
#include "plan/classic_memory.h"
#include "plan/compute_budget.h"
#include "plan/fit_runs.h"
#include "plan/picture.h"
#include "plan/report.h"
#include "plan/search.h"
#include "train/device.h"

namespace lathe {
namespace {

struct PlanOptions {
    RunOptions run;
    std::string hardware = "here";
    int ranks = 1;
    int ranks_per_node = 0;
    int rank = 0;
    double tokens = -1.0;
    double price_per_hour = 0.0;
    std::string currency = "USD";
    bool json = false;
    bool search = false;
    int best = 10;
    std::string picture;
};

/// The vocabulary is the tokenizer's where data is named, else the preset's own.
void complete(RunConfig& config) {
    ModelConfig& model = config.model;
    if (model.vocabulary_size == 0 && !config.data.data.empty()) {
        model.vocabulary_size = read_dataset_info(config.data.data).vocabulary_size;
    }
    if (model.vocabulary_size == 0 && !config.preset.empty()) {
        model.vocabulary_size = preset(config.preset).vocabulary_size;
    }
    LATHE_CHECK_USAGE(model.vocabulary_size > 0,
                      "vocabulary-size is missing: give --vocabulary-size, --data or --preset");
    if (config.train.sequence_length == 0) {
        config.train.sequence_length = model.sequence_length;
    }
}

Hardware measured_here(DeviceConfig device) {
    device.device = DeviceKind::cpu;
    return measure_this_cpu(static_cast<int>(device.threads),
                            compute_dtype(device, *make_backend(device)));
}

Plan plan_of(const PlanOptions& options) {
    Plan plan;
    plan.config = load_run_config(options.run.config_file(), options.run.overrides());
    complete(plan.config);
    plan.hardware = options.hardware == "here" ? measured_here(plan.config.device)
                                               : load_hardware(options.hardware);
    plan.ranks = options.ranks;
    plan.ranks_per_node = options.ranks_per_node;
    plan.rank = options.rank;
    plan.keep_spans = true;
    plan.validate();
    return plan;
}

Budget budget_of(const PlanOptions& options, const Plan& plan) {
    LATHE_CHECK_USAGE(options.tokens != 0.0 && options.tokens >= -1.0,
                      "--tokens {}: must be at least 1", options.tokens);
    LATHE_CHECK_USAGE(options.price_per_hour >= 0.0, "--price-per-hour {}: must be at least 0",
                      options.price_per_hour);
    const int64_t tokens = options.tokens > 0.0 ? static_cast<int64_t>(options.tokens)
                                                : plan.config.train.steps * plan.tokens_per_step();
    return {
        .tokens = tokens, .price_per_hour = options.price_per_hour, .currency = options.currency};
}

void write_picture(const std::string& file, const std::string& picture) {
    if (!file.empty()) {
        write_file(file, picture);
    }
}

std::string remedy_text(const PlanReport& report, const Budget& budget) {
    if (report.fits) {
        return "";
    }
    const std::optional<Remedy> remedy = find_remedy(report.plan, budget);
    if (!remedy) {
        return "\nnothing makes it fit: not stage 3, full recomputation, micro-batch 1 and "
               "offloading together; use more ranks or a smaller model\n";
    }
    return fmt::format(
        "\nfits with {}: {} at {} tokens/s\n", remedy->text,
        bytes_text(static_cast<double>(remedy->report.result.memory.total_peak_bytes)),
        count_text(remedy->report.tokens_per_second));
}

int run_plan(const PlanOptions& options) {
    const Plan plan = plan_of(options);
    const Budget budget = budget_of(options, plan);
    LATHE_CHECK_USAGE(options.best >= 1, "--best {}: must be at least 1", options.best);
    if (options.search) {
        const Search found = search(plan, budget);
        fmt::print("{}", options.json ? search_json(found)
                                      : search_text(found, static_cast<size_t>(options.best)));
        return 0;
    }
    const PlanReport report = make_report(plan, budget);
    write_picture(options.picture, options.picture.empty() ? "" : step_picture(report));
    fmt::print("{}", options.json ? report_json(report)
                                  : report_text(report) + remedy_text(report, budget));
    return 0;
}

void add_memory(CLI::App& plan, Action& action) {
    struct Options {
        double parameters = 0.0;
        int64_t ranks = 1;
        bool json = false;
    };
    CLI::App* command = plan.add_subcommand(
        "memory", "Bytes of weights, gradients, Adam and activations, whole and sharded.");
    auto options = std::make_shared<Options>();
    command->add_option("--params", options->parameters, "parameters, e.g. 7.5e9")->required();
    command->add_option("--ranks", options->ranks, "ranks that share them");
    command->add_flag("--json", options->json, "as JSON");
    command->callback([&action, options] {
        action = [options] {
            LATHE_CHECK_USAGE(options->parameters >= 1.0 && options->parameters < 1e18,
                              "--params {}: must be from 1 to 1e18", options->parameters);
            LATHE_CHECK_USAGE(options->ranks >= 1, "--ranks {}: must be at least 1",
                              options->ranks);
            fmt::print("{}", options->json
                                 ? classic_memory_json(options->parameters, options->ranks)
                                 : classic_memory_text(options->parameters, options->ranks));
            return 0;
        };
    });
}

void add_compute(CLI::App& plan, Action& action) {
    struct Options {
        ComputeQuestion question;
        std::string hardware;
        bool json = false;
    };
    CLI::App* command = plan.add_subcommand(
        "compute", "What to train with so many FLOPs, or what a model and tokens take.");
    auto options = std::make_shared<Options>();
    ComputeQuestion& question = options->question;
    command->add_option("--flops", question.flops, "budget, e.g. 1e21");
    command->add_option("--gpu-days", question.device_days, "budget, with --hardware");
    command->add_option("--params", question.parameters, "parameters of the model");
    command->add_option("--tokens", question.tokens, "tokens to train on");
    command->add_option("--hardware", options->hardware, "NAME|FILE, for the time it takes");
    command->add_option("--ranks", question.ranks, "devices");
    command->add_option("--utilization", question.utilization, "of the hardware's bf16 peak");
    command->add_option("--price-per-hour", question.price_per_hour, "of a device");
    command->add_option("--currency", question.currency, "of the price");
    command->add_flag("--json", options->json, "as JSON");
    CLI::App* const self = command;
    command->callback([&action, options, self] {
        action = [options, self] {
            for (const char* option : {"--flops", "--gpu-days", "--params", "--tokens"}) {
                LATHE_CHECK_USAGE(
                    self->count(option) == 0 || self->get_option(option)->as<double>() > 0.0,
                    "{} {}: must be a number above 0", option,
                    self->get_option(option)->as<std::string>());
            }
            if (!options->hardware.empty()) {
                options->question.hardware = load_hardware(options->hardware);
            }
            const ComputeAnswer found = answer(options->question);
            fmt::print("{}", options->json ? compute_json(options->question, found)
                                           : compute_text(options->question, found));
            return 0;
        };
    });
}

void add_fit(CLI::App& plan, Action& action) {
    struct Options {
        std::vector<std::string> folders;
        std::string picture;
        bool json = false;
    };
    CLI::App* command = plan.add_subcommand(
        "fit", "Fit loss = E + A / N^alpha + B / D^beta to the validation losses of runs.");
    auto options = std::make_shared<Options>();
    command->add_option("runs", options->folders, "run folders, of at least 3 sizes of model")
        ->required();
    command->add_option("--picture", options->picture, "SVG of the losses and the law")
        ->type_name("FILE");
    command->add_flag("--json", options->json, "as JSON");
    command->callback([&action, options] {
        action = [options] {
            std::vector<RunPoints> runs;
            std::vector<LossPoint> points;
            for (const std::string& folder : options->folders) {
                runs.push_back(read_run(folder));
                points.insert(points.end(), runs.back().points.begin(), runs.back().points.end());
            }
            const LossLaw law = fit_law(points);
            write_picture(options->picture,
                          options->picture.empty() ? "" : fit_picture(points, law));
            fmt::print("{}", options->json ? fit_json(runs, law) : fit_text(runs, law));
            return 0;
        };
    });
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "plan", "Say whether a run fits, how fast and how dear it will be, without the hardware.");
    auto options = std::make_shared<PlanOptions>();
    add_run_options(*command, options->run);
    command
        ->add_option("--hardware", options->hardware,
                     fmt::format("what it is to run on: {}, a file like those of configs/hardware, "
                                 "or here: this CPU, measured now",
                                 fmt::join(hardware_names(), ", ")))
        ->type_name("NAME|FILE")
        ->default_str("here");
    command->add_option("--ranks", options->ranks, "ranks of the run")->type_name("INTEGER");
    command->add_option("--ranks-per-node", options->ranks_per_node,
                        "default: a node's devices; all on one node of a CPU");
    command->add_option("--rank", options->rank, "whose view; 0 has never less than another");
    command->add_option("--tokens", options->tokens,
                        "budget to train on; default: steps x tokens of a step");
    command->add_option("--price-per-hour", options->price_per_hour, "of a device");
    command->add_option("--currency", options->currency, "of the price");
    command->add_flag("--search", options->search,
                      "try all layouts: a table of the fastest that fit");
    command->add_option("--best", options->best, "rows of that table")->default_str("10");
    command
        ->add_option("--picture", options->picture,
                     "SVG of the memory over a step and of the streams")
        ->type_name("FILE");
    command->add_flag("--json", options->json, "as JSON");
    command->callback([&action, options] {
        if (!action) {
            action = [options] { return run_plan(*options); };
        }
    });
    add_memory(*command, action);
    add_compute(*command, action);
    add_fit(*command, action);
}

}  // namespace lathe
