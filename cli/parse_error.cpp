#include "cli/parse_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "train/run_fields.h"

namespace lathe {
namespace {

std::string unknown_option_text(const CLI::App& command, const std::string& command_line,
                                const std::string& argument) {
    const std::string name = argument.substr(0, argument.find('='));
    std::vector<std::string> known;
    for (const CLI::Option* option : command.get_options()) {
        for (const std::string& long_name : option->get_lnames()) {
            known.push_back("--" + long_name);
        }
    }
    const std::string nearest = nearest_name(name, known);
    return fmt::format("{}: unknown option; {}", name,
                       nearest.empty() ? fmt::format("see {} --help", command_line)
                                       : fmt::format("did you mean {}?", nearest));
}

std::string unknown_command_text(const CLI::App& parent, const std::string& argument) {
    std::vector<std::string> known;
    for (const CLI::App* command : parent.get_subcommands({})) {
        known.push_back(command->get_name());
    }
    const std::string nearest = nearest_name(argument, known);
    return fmt::format("{}: unknown command; {}", argument,
                       nearest.empty() ? fmt::format("known are {}", fmt::join(known, ", "))
                                       : fmt::format("did you mean {}?", nearest));
}

}  // namespace

std::string parse_error_text(const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App* innermost = &app;
    std::string command_line = "lathe";
    while (!innermost->get_subcommands().empty()) {
        innermost = innermost->get_subcommands().front();
        command_line += " " + innermost->get_name();
    }
    const CLI::App& command = *innermost;
    const auto remaining = app.remaining(true);
    const auto option = std::find_if(remaining.begin(), remaining.end(), [](const auto& argument) {
        return argument.starts_with("-") && argument != "--";
    });
    if (option != remaining.end()) {
        return unknown_option_text(command, command_line, *option);
    }
    if (!remaining.empty() && !command.get_subcommands({}).empty()) {
        return unknown_command_text(command, remaining.front());
    }
    if (!remaining.empty()) {
        return fmt::format("{}: unknown argument; see {} --help", remaining.front(), command_line);
    }
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return fmt::format("{} (see {} --help)", text, command_line);
}

}  // namespace lathe
