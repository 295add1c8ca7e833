#include "cli/run_options.h"

#include <cctype>

namespace lathe {
namespace {

std::string value_name(const RunField& field) {
    if (!field.choices.empty()) {
        return fmt::format("{}", fmt::join(field.choices, "|"));
    }
    switch (field.kind) {
        case FieldKind::integer:
            return "INTEGER";
        case FieldKind::real:
            return "NUMBER";
        case FieldKind::boolean:
            return "[true|false]";
        case FieldKind::text:
            return "TEXT";
    }
    return "";
}

std::string group_name(const RunField& field) {
    std::string name = field.section;
    name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
    return name;
}

}  // namespace

CLI::Option* add_field_option(CLI::App& command, const RunField& field, RunOverrides& overrides) {
    const bool is_flag = field.kind == FieldKind::boolean;
    CLI::callback_t collect = [&overrides, key = field.key,
                               is_flag](const CLI::results_t& results) {
        const std::string& value = results.at(0);
        overrides.emplace_back(key, is_flag && value.empty() ? "true" : value);
        return true;
    };
    CLI::Option* option = command.add_option("--" + field.key, std::move(collect), field.help);
    option->type_name(value_name(field))->type_size(1);
    if (field.kind == FieldKind::boolean) {
        // CLI11 takes a default string as the value of an option that stands alone.
        option->expected(0, 1)->type_name(
            fmt::format("{}={}", value_name(field), field.default_text));
    } else if (!field.default_text.empty()) {
        option->default_str(field.default_text);
    }
    return option;
}

void add_run_options(CLI::App& command, RunOptions& options) {
    command
        .add_option("--config", options.config_file_,
                    "TOML file of the options below, each in its section; options given here "
                    "win over it")
        ->type_name("FILE");
    for (const RunField& field : run_fields()) {
        add_field_option(command, field, options.overrides_)->group(group_name(field));
    }
}

}  // namespace lathe
