// The subcommands of `lathe`, one file each. add_NAME creates the subcommand; parsing a command
// line that names it sets `action` to what then runs. An action returns the exit code, or throws
// UsageError (2) or Error (1).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace lathe {

using Action = std::function<int()>;

void add_prepare(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_evaluate(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_import(CLI::App& app, Action& action);
void add_logits(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);

}  // namespace lathe
