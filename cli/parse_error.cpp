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

/// What CLI11 says of an option's value, in words that name the mend; its own text where it says
/// something else.
std::string value_error_text(const CLI::App& command, const std::string& command_line,
                             const std::string& text) {
    constexpr std::string_view kConversion = "Could not convert: ";
    constexpr std::string_view kMissing = ": 1 required ";
    constexpr std::string_view kTooMany = ": At Most 1 required but received ";
    const size_t equals = text.find(" = ");
    if (text.starts_with(kConversion) && equals != std::string::npos) {
        const std::string name = text.substr(kConversion.size(), equals - kConversion.size());
        const CLI::Option* option = command.get_option_no_throw(name);
        const std::string type = option == nullptr ? "" : option->get_type_name();
        return fmt::format("{} {}: must be {}", name, text.substr(equals + 3),
                           type == "FLOAT" ? "a number" : "a whole number in range");
    }
    if (const size_t at = text.find(kTooMany); at != std::string::npos) {
        return fmt::format("{}: is given {} times; give it once", text.substr(0, at),
                           text.substr(at + kTooMany.size()));
    }
    if (const size_t at = text.find(kMissing); at != std::string::npos) {
        return fmt::format("{}: its value is missing; see {} --help", text.substr(0, at),
                           command_line);
    }
    return fmt::format("{} (see {} --help)", text, command_line);
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
    return value_error_text(command, command_line, text);
}

}  // namespace lathe
