#include "train/run_config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "train/profile.h"
#include "train/run_fields.h"

namespace lathe {
namespace {

/// A value as given, and where.
struct GivenValue {
    const RunField* field = nullptr;
    std::string text;
    std::string file_line;  ///< "FILE:12", or empty for the command line

    std::string origin() const {
        return file_line.empty() ? fmt::format("--{} {}", field->key, text)
                                 : fmt::format("{}: {} = {}", file_line, field->key, text);
    }
};

const RunField* find_field(std::string_view key) {
    const auto& fields = run_fields();
    const auto found =
        std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.key == key; });
    return found == fields.end() ? nullptr : &*found;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
    const std::string nearest = nearest_name(word, candidates);
    return nearest.empty() ? fmt::format("known are {}", fmt::join(candidates, ", "))
                           : fmt::format("did you mean {}?", nearest);
}

std::vector<std::string> keys_of_section(std::string_view section) {
    std::vector<std::string> keys;
    for (const RunField& field : run_fields()) {
        if (section.empty() || field.section == section) {
            keys.push_back(field.key);
        }
    }
    return keys;
}

/// An empty name is no preset.
void check_preset(const std::string& name, const std::string& origin) {
    const auto names = preset_names();
    LATHE_CHECK_USAGE(name.empty() || std::find(names.begin(), names.end(), name) != names.end(),
                      "{}: unknown preset; {}", origin, did_you_mean(name, names));
}

std::string name_of_type(toml::node_type type) {
    switch (type) {
        case toml::node_type::string:
            return "a string";
        case toml::node_type::integer:
            return "an integer";
        case toml::node_type::floating_point:
            return "a number with a point or exponent";
        case toml::node_type::boolean:
            return "true or false";
        case toml::node_type::array:
            return "an array";
        case toml::node_type::table:
            return "a table";
        default:
            return "a date or time";
    }
}

/// The node's value as RunField::set reads it; throws when its type is not the field's.
std::string text_of_node(const toml::node& node, const RunField& field,
                         const std::string& file_line) {
    switch (field.kind) {
        case FieldKind::integer:
            if (const auto* integer = node.as_integer()) {
                return fmt::format("{}", integer->get());
            }
            break;
        case FieldKind::real:
            if (const auto* integer = node.as_integer()) {
                return fmt::format("{}", integer->get());
            }
            if (const auto* real = node.as_floating_point()) {
                return real_text(real->get());
            }
            break;
        case FieldKind::boolean:
            if (const auto* boolean = node.as_boolean()) {
                return boolean->get() ? "true" : "false";
            }
            break;
        case FieldKind::text:
            if (const auto* text = node.as_string()) {
                return text->get();
            }
            break;
    }
    static constexpr const char* kExpected[] = {"an integer", "a number", "true or false",
                                                "a string in quotes"};
    std::ostringstream value;
    node.visit([&](const auto& concrete) { value << concrete; });
    std::string line = value.str();
    std::replace(line.begin(), line.end(), '\n', ' ');
    fail_usage("{}: {} = {}: must be {}, not {}", file_line, field.key, line,
               kExpected[static_cast<size_t>(field.kind)], name_of_type(node.type()));
}

[[noreturn]] void fail_unknown_key(const std::string& file_line, const std::string& section,
                                   const std::string& key) {
    if (const RunField* field = find_field(key)) {
        fail_usage("{}: {}: belongs in the section [{}]{}", file_line, key, field->section,
                   section.empty() ? "" : fmt::format(", not [{}]", section));
    }
    const std::string nearest = nearest_name(key, keys_of_section(""));
    if (const RunField* field = find_field(nearest)) {
        fail_usage("{}: {}: unknown key; did you mean {} in the section [{}]?", file_line, key,
                   nearest, field->section);
    }
    LATHE_CHECK_USAGE(!section.empty(), "{}: {}: unknown key outside of any section", file_line,
                      key);
    fail_usage("{}: {}: unknown key; [{}] takes {}", file_line, key, section,
               fmt::join(keys_of_section(section), ", "));
}

std::string read_config_file(const std::string& file) {
    std::error_code error;
    const auto status = std::filesystem::status(file, error);
    LATHE_CHECK_USAGE(std::filesystem::exists(status), "{}: no such configuration file", file);
    LATHE_CHECK_USAGE(!std::filesystem::is_directory(status),
                      "{}: is a folder; give a configuration file", file);
    std::ifstream stream(file, std::ios::binary);
    std::ostringstream text;
    // Inserting an empty buffer would set the fail bit.
    if (stream && stream.peek() != std::ifstream::traits_type::eof()) {
        text << stream.rdbuf();
    }
    LATHE_CHECK_USAGE(stream.is_open() && !stream.bad() && text.good(),
                      "{}: the configuration file cannot be read", file);
    return text.str();
}

toml::table parse_config_file(const std::string& file) {
    const std::string text = read_config_file(file);
    try {
        return toml::parse(text, file);
    } catch (const toml::parse_error& error) {
        fail_usage("{}:{}: {}", file, error.source().begin.line, error.description());
    }
}

/// All values of the file, in its order of sections and keys.
std::vector<GivenValue> values_of_file(const std::string& file) {
    std::vector<std::string> sections;  // "[train]"
    for (const RunField& field : run_fields()) {
        const std::string section = fmt::format("[{}]", field.section);
        if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
            sections.push_back(section);
        }
    }
    const auto line_of = [&](const toml::node& node) {
        return fmt::format("{}:{}", file, node.source().begin.line);
    };
    std::vector<GivenValue> values;
    const toml::table root = parse_config_file(file);
    for (const auto& [section_key, section_node] : root) {
        const std::string section(section_key.str());
        const std::string header = fmt::format("[{}]", section);
        const bool known = std::find(sections.begin(), sections.end(), header) != sections.end();
        if (!section_node.is_table() && !known) {
            fail_unknown_key(line_of(section_node), "", section);
        }
        LATHE_CHECK_USAGE(known, "{}: {}: unknown section; {}", line_of(section_node), header,
                          did_you_mean(header, sections));
        LATHE_CHECK_USAGE(section_node.is_table(), "{}: {}: must be a section, written {}",
                          line_of(section_node), section, header);
        for (const auto& [key_node, node] : *section_node.as_table()) {
            const std::string key(key_node.str());
            const RunField* field = find_field(key);
            if (field == nullptr || field->section != section) {
                fail_unknown_key(line_of(node), section, key);
            }
            values.push_back({field, text_of_node(node, *field, line_of(node)), line_of(node)});
        }
    }
    return values;
}

/// A failed check's message begins with "key = value: "; says where that value was given.
[[noreturn]] void fail_with_origin(const std::string& message,
                                   const std::map<std::string, GivenValue>& given) {
    const std::string key = message.substr(0, message.find(" = "));
    const auto found = given.find(key);
    if (found == given.end()) {
        throw UsageError(message);
    }
    const GivenValue& value = found->second;
    if (!value.file_line.empty()) {
        fail_usage("{}: {}", value.file_line, message);
    }
    fail_usage("--{} {}", key, message.substr(key.size() + 3));
}

/// The fields whose default is another field.
void follow_given_fields(RunConfig& config, const std::map<std::string, GivenValue>& given) {
    if (config.preset.empty() && !given.contains("kv-heads")) {
        config.model.kv_heads = config.model.heads;
    }
    if (config.preset.empty() && !given.contains("context-length") &&
        config.train.sequence_length > 0) {
        config.model.sequence_length = config.train.sequence_length;
    }
    if (config.train.sequence_length == 0) {
        config.train.sequence_length = config.model.sequence_length;
    }
}

/// All checks but that the number of steps is given: commands that train nothing need none.
void check_given_fields(const RunConfig& config) {
    const ModelConfig& model = config.model;
    const TrainConfig& train = config.train;
    const OptimizerConfig& optimizer = config.optimizer;
    for (const RunField& field : run_fields()) {
        const std::string complaint = field.complaint(config);
        if (!complaint.empty()) {
            // A text that is not UTF-8 has no TOML form.
            const std::string value = field.kind == FieldKind::text ? "" : field.get(config);
            fail_usage("{} = {}: {}", field.key, value, complaint);
        }
    }
    check_preset(config.preset, fmt::format("preset = {}", config.preset));
    ModelConfig checked = model;
    checked.vocabulary_size = std::max<int64_t>(1, model.vocabulary_size);
    checked.validate();
    LATHE_CHECK_USAGE(train.sequence_length <= model.sequence_length,
                      "sequence-length = {}: must be at most the model's context-length = {}",
                      train.sequence_length, model.sequence_length);
    LATHE_CHECK_USAGE(train.global_batch % train.micro_batch == 0,
                      "global-batch = {}: must be a multiple of micro-batch = {}",
                      train.global_batch, train.micro_batch);
    LATHE_CHECK_USAGE(!train.profile || train.steps == 0 || train.steps > Profile::kStepsBefore,
                      "profile = true: begins with step {} of a process; steps = {} is too few",
                      Profile::kStepsBefore + 1, train.steps);
    LATHE_CHECK_USAGE(
        static_cast<double>(train.steps) * static_cast<double>(train.global_batch) *
                static_cast<double>(model.sequence_length) <
            9e18,
        "steps = {}: with {} sequences of {} tokens, the tokens do not fit in 64 bits", train.steps,
        train.global_batch, model.sequence_length);
    // A run that ends within its warm-up is a trial of a longer one's beginning.
    LATHE_CHECK_USAGE(train.steps <= optimizer.warmup_steps ||
                          optimizer.schedule != ScheduleKind::warmup_stable_decay ||
                          static_cast<double>(optimizer.warmup_steps) +
                                  optimizer.decay_fraction * static_cast<double>(train.steps) <=
                              static_cast<double>(train.steps),
                      "decay-fraction = {}: must leave room for warmup-steps = {} in steps = {}",
                      optimizer.decay_fraction, optimizer.warmup_steps, train.steps);
    LATHE_CHECK_USAGE(!optimizer.stochastic_rounding || config.device.dtype != ComputeDType::f32,
                      "stochastic-rounding = true: rounds bf16 parameters; needs dtype = bf16");
    LATHE_CHECK_USAGE(
        config.parallel.offload_folder.empty() || config.parallel.offload == Offload::optimizer,
        "offload-folder = {}: nothing is offloaded; give offload = optimizer too",
        config.parallel.offload_folder);
    LATHE_CHECK_USAGE(!config.checkpoint.resume.empty(),
                      "resume = : must be auto, never, or a checkpoint's path");
}

}  // namespace

void RunConfig::validate() const {
    check_given_fields(*this);
    LATHE_CHECK_USAGE(train.steps >= 1,
                      "steps = 0: give the number of optimizer steps, at least 1");
}

RunConfig load_run_config(const std::optional<std::string>& file, const RunOverrides& overrides) {
    std::vector<GivenValue> values = file ? values_of_file(*file) : std::vector<GivenValue>();
    for (const auto& [key, text] : overrides) {
        const RunField* field = find_field(key);
        LATHE_CHECK_USAGE(field != nullptr, "--{}: unknown option; {}", key,
                          did_you_mean(key, keys_of_section("")));
        values.push_back({field, text, ""});
    }
    std::map<std::string, GivenValue> given;
    for (const GivenValue& value : values) {
        given.insert_or_assign(value.field->key, value);
    }
    RunConfig config;
    if (const auto preset_value = given.find("preset");
        preset_value != given.end() && !preset_value->second.text.empty()) {
        check_preset(preset_value->second.text, preset_value->second.origin());
        config.model = preset(preset_value->second.text);
        config.model.vocabulary_size = 0;
    }
    for (const GivenValue& value : values) {
        value.field->set(config, value.text, value.origin());
    }
    follow_given_fields(config, given);
    try {
        check_given_fields(config);
    } catch (const UsageError& error) {
        fail_with_origin(error.what(), given);
    }
    return config;
}

std::string to_toml(const RunConfig& config) {
    std::string text;
    std::string section;
    for (const RunField& field : run_fields()) {
        if (field.section != section) {
            text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", field.section);
            section = field.section;
        }
        text += fmt::format("{} = {}\n", field.key, field.get(config));
    }
    return text;
}

}  // namespace lathe
