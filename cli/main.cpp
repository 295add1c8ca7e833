// lathe: one binary, one subcommand a file. Exit codes: 0 done, 1 failed, 2 bad usage or
// configuration, 130 and 143 stopped by a signal after a checkpoint.
#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cli/commands.h"
#include "cli/openmp.h"
#include "cli/parse_error.h"
#include "kernels/error.h"
#include "parallel/launch.h"

namespace {

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

int report(const std::string& text, int code) {
    fmt::print(stderr, "lathe: {}\n", text);
    return code;
}

/// What all ranks of a job find wrong before they have met.
int report_once(const std::string& text, int code) {
    if (lathe::launched_ranks() > 1) {
        lathe::join_launch()->abort(text, code);
    }
    return report(text, code);
}

int run(int argc, char** argv) {
    CLI::App app("Lathe trains decoder-only transformers from scratch.", "lathe");
    app.set_version_flag("--version", LATHE_VERSION);
    app.require_subcommand(1);
    app.get_formatter()->column_width(44);
    lathe::Action action;
    lathe::add_prepare(app, action);
    lathe::add_tokenize(app, action);
    lathe::add_train(app, action);
    lathe::add_generate(app, action);
    lathe::add_evaluate(app, action);
    lathe::add_export(app, action);
    lathe::add_import(app, action);
    lathe::add_logits(app, action);
    lathe::add_bench(app, action);
    lathe::add_info(app, action);
    lathe::add_plan(app, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            return app.exit(error);  // --help and --version
        }
        return report_once(lathe::parse_error_text(app, error), kBadUsage);
    }
    return action();
}

}  // namespace

int main(int argc, char** argv) {
    lathe::shorten_openmp_spin(argv);
    try {
        return run(argc, argv);
    } catch (const lathe::UsageError& error) {
        return report(error.what(), kBadUsage);
    } catch (const std::bad_alloc&) {
        return report("out of memory", kFailed);
    } catch (const std::exception& error) {
        return report(error.what(), kFailed);
    }
}
