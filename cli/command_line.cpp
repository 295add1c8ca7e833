#include "cli/command_line.h"

#include <fmt/core.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/parse_error.h"
#include "parallel/launch.h"

namespace lathe {
namespace {

/// What all ranks of a job find wrong before they have met.
int report_once(const std::string& text, int code) {
    if (launched_ranks() > 1) {
        join_launch()->abort(text, code);
    }
    return report(text, code);
}

}  // namespace

int report(const std::string& text, int code) {
    fmt::print(stderr, "lathe: {}\n", text);
    return code;
}

int run_command_line(int argc, char** argv) {
    CLI::App app("Lathe trains decoder-only transformers from scratch.", "lathe");
    app.set_version_flag("--version", LATHE_VERSION);
    app.require_subcommand(1);
    app.get_formatter()->column_width(44);
    Action action;
    add_prepare(app, action);
    add_tokenize(app, action);
    add_train(app, action);
    add_generate(app, action);
    add_evaluate(app, action);
    add_export(app, action);
    add_import(app, action);
    add_logits(app, action);
    add_bench(app, action);
    add_info(app, action);
    add_plan(app, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            return app.exit(error);  // --help and --version
        }
        return report_once(parse_error_text(app, error), kBadUsage);
    }
    return action();
}

}  // namespace lathe
