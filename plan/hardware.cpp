#include "plan/hardware.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>

#include "plan/shipped_hardware.h"
#include "train/run_fields.h"

namespace lathe {
namespace {

/// Reads keys of one file, and in the end tells of those that nothing reads.
class Reader {
  public:
    Reader(const toml::table& root, std::string file) : root_(root), file_(std::move(file)) {}

    double number(const char* section, const char* key, double low, bool required = true,
                  double otherwise = 0.0) {
        const toml::node* node = find(section, key, required);
        if (node == nullptr) {
            return otherwise;
        }
        return checked(*node, section, key, low);
    }

    int64_t integer(const char* section, const char* key, int64_t low, bool required = true,
                    int64_t otherwise = 0) {
        const toml::node* node = find(section, key, required);
        if (node == nullptr) {
            return otherwise;
        }
        LATHE_CHECK_USAGE(node->is_integer() && node->as_integer()->get() >= low,
                          "{}: {} must be an integer from {}", line_of(*node), key, low);
        return node->as_integer()->get();
    }

    std::string text(const char* section, const char* key, const std::string& otherwise) {
        const toml::node* node = find(section, key, false);
        if (node == nullptr) {
            return otherwise;
        }
        LATHE_CHECK_USAGE(node->is_string(), "{}: {} must be a string in quotes", line_of(*node),
                          key);
        return node->as_string()->get();
    }

    /// 0.7, or [[256, 0.5], [4096, 0.8]].
    AchievableFraction fraction(const char* key, const char* otherwise) {
        const toml::node* node = find("fractions", key, false);
        if (node == nullptr) {
            node = find("fractions", otherwise, true);
        }
        if (!node->is_array()) {
            return AchievableFraction({{1.0, checked_fraction(*node, key)}});
        }
        std::vector<std::pair<double, double>> points;
        for (const toml::node& entry : *node->as_array()) {
            const toml::array* pair = entry.as_array();
            LATHE_CHECK_USAGE(pair != nullptr && pair->size() == 2,
                              "{}: {} must be a number, or pairs [extent, fraction]",
                              line_of(*node), key);
            const double extent = checked(*pair->get(0), "fractions", key, 1.0);
            LATHE_CHECK_USAGE(points.empty() || extent > points.back().first,
                              "{}: the extents of {} must ascend", line_of(*node), key);
            points.emplace_back(extent, checked_fraction(*pair->get(1), key));
        }
        LATHE_CHECK_USAGE(!points.empty(), "{}: {} is empty", line_of(*node), key);
        return AchievableFraction(std::move(points));
    }

    void may_have(const char* section, const char* key) { find(section, key, false); }

    void check_all_read() const {
        for (const auto& [section, node] : root_) {
            const toml::table* table = node.as_table();
            LATHE_CHECK_USAGE(table != nullptr, "{}: {}: must be in a section", line_of(node),
                              section.str());
            for (const auto& [key, value] : *table) {
                const std::string full = fmt::format("{}.{}", section.str(), key.str());
                if (!known_.contains(full)) {
                    const std::string nearest = nearest_name(full, {known_.begin(), known_.end()});
                    fail_usage("{}: {}: unknown key{}", line_of(value), full,
                               nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
                }
            }
        }
    }

    const std::string& file() const { return file_; }

  private:
    std::string line_of(const toml::node& node) const {
        return fmt::format("{}:{}", file_, node.source().begin.line);
    }

    const toml::node* find(const char* section, const char* key, bool required) {
        known_.insert(fmt::format("{}.{}", section, key));
        const toml::table* table = root_[section].as_table();
        const toml::node* node = table == nullptr ? nullptr : table->get(key);
        LATHE_CHECK_USAGE(node != nullptr || !required, "{}: {} is missing in the section [{}]",
                          file_, key, section);
        return node;
    }

    double checked(const toml::node& node, const char* section, const char* key, double low) const {
        const std::optional<double> value = node.value<double>();
        LATHE_CHECK_USAGE(node.is_number() && value && std::isfinite(*value) && *value >= low,
                          "{}: {} of [{}] must be a number from {}", line_of(node), key, section,
                          low);
        return *value;
    }
    double checked_fraction(const toml::node& node, const char* key) const {
        const double value = checked(node, "fractions", key, 0.0);
        LATHE_CHECK_USAGE(value > 0.0 && value <= 100.0,
                          "{}: {} = {}: must be above 0 and at most 100", line_of(node), key,
                          value);
        return value;
    }

    const toml::table& root_;
    std::string file_;
    std::set<std::string> known_;
};

Link read_link(Reader& reader, const char* section) {
    return {.bytes_per_second = 1e9 * reader.number(section, "gigabytes-per-second", 1e-6),
            .latency_s = 1e-6 * reader.number(section, "latency-us", 0.0)};
}

void read_target(Reader& reader, Hardware& hardware) {
    hardware.target = reader.text("device", "target", "cuda");
    LATHE_CHECK_USAGE(hardware.target == "cpu" || hardware.target == "cuda",
                      "{}: target = {}: must be cpu or cuda", reader.file(), hardware.target);
    if (hardware.target == "cpu") {
        hardware.cores = reader.integer("device", "cores", 1);
        return;
    }
    hardware.nccl = true;
    hardware.profile = {
        .compute_capability = static_cast<int>(reader.integer("device", "compute-capability", 80)),
        .num_multiprocessors = static_cast<int>(reader.integer("device", "multiprocessors", 1)),
        .shared_memory_per_block = reader.integer("device", "shared-memory-per-block", 1),
        .shared_memory_per_multiprocessor =
            reader.integer("device", "shared-memory-per-multiprocessor", 1)};
}

/// Each class, and what stands for it where it is left out.
constexpr std::pair<OperationClass, const char*> kFallbacks[] = {
    {OperationClass::matmul, "matmul"},
    {OperationClass::attention, "attention"},
    {OperationClass::attention_backward, "attention"},
    {OperationClass::norm, "memory"},
    {OperationClass::activation, "memory"},
    {OperationClass::rotary, "memory"},
    {OperationClass::cross_entropy, "memory"},
    {OperationClass::embedding, "memory"},
    {OperationClass::optimizer, "memory"},
    {OperationClass::sum, "memory"},
    {OperationClass::copy, "memory"}};

Hardware read_hardware(Reader reader) {
    Hardware hardware;
    hardware.name = reader.text("device", "name", reader.file());
    read_target(reader, hardware);
    const bool cpu = hardware.target == "cpu";
    hardware.devices_per_node = reader.integer("device", "devices-per-node", 1, !cpu, 1);
    hardware.memory_bytes =
        static_cast<int64_t>(reader.number("device", "memory-gib", 1e-3) * 1073741824.0);
    hardware.reserved_memory_bytes = static_cast<int64_t>(
        reader.number("device", "reserved-memory-gib", 0.0, false) * 1073741824.0);
    LATHE_CHECK_USAGE(hardware.reserved_memory_bytes < hardware.memory_bytes,
                      "{}: reserved-memory-gib must be less than memory-gib", reader.file());
    hardware.memory_bytes_per_second =
        1e9 * reader.number("device", "memory-gigabytes-per-second", 1e-3);
    hardware.f32_flops = 1e12 * reader.number("device", "f32-teraflops", 1e-6);
    hardware.bf16_flops = 1e12 * reader.number("device", "bf16-teraflops", 1e-6);
    hardware.launch_s = 1e-6 * reader.number("device", "launch-us", 0.0);
    hardware.least_operation_s = 1e-6 * reader.number("device", "least-operation-us", 0.0);
    hardware.watts = reader.number("device", "watts", 0.0, false);
    hardware.price_per_hour = reader.number("device", "price-per-hour", 0.0, false);
    hardware.currency = reader.text("device", "currency", "USD");
    hardware.within_node = read_link(reader, "within-node");
    hardware.between_nodes = read_link(reader, "between-nodes");
    hardware.host = read_link(reader, "host");
    for (const auto& [operation_class, otherwise] : kFallbacks) {
        hardware.fractions[static_cast<size_t>(operation_class)] =
            reader.fraction(std::string(name_of(operation_class)).c_str(), otherwise);
    }
    hardware.link_fraction = reader.fraction("link", "link").at(1.0);
    reader.may_have("fractions", "memory");
    reader.check_all_read();
    return hardware;
}

/// Adds what `root` leaves out of the shipped description that it is like.
void complete_from_like(toml::table& root, const std::string& file) {
    toml::table* device = root["device"].as_table();
    const toml::node* like = device == nullptr ? nullptr : device->get("like");
    if (like == nullptr) {
        return;
    }
    const std::string name = like->value_or(std::string());
    const auto shipped = shipped_hardware();
    const auto base = std::find_if(shipped.begin(), shipped.end(),
                                   [&](const ShippedHardware& each) { return each.name == name; });
    LATHE_CHECK_USAGE(base != shipped.end(), "{}:{}: like = {}: must be one of {}", file,
                      like->source().begin.line, name, fmt::join(hardware_names(), ", "));
    for (const auto& [section, node] : toml::parse(base->text)) {
        if (root[section].as_table() == nullptr) {
            root.insert(section, toml::table());
        }
        for (const auto& [key, value] : *node.as_table()) {
            root[section].as_table()->insert(key, value);
        }
    }
    root["device"].as_table()->erase("like");
}

Hardware parse_hardware(const std::string& text, const std::string& file) {
    try {
        toml::table root = toml::parse(text, file);
        complete_from_like(root, file);
        return read_hardware(Reader(root, file));
    } catch (const toml::parse_error& error) {
        fail_usage("{}:{}: {}", file, error.source().begin.line, error.description());
    }
}

}  // namespace

double AchievableFraction::at(double extent) const {
    const auto above = std::find_if(points_.begin(), points_.end(),
                                    [&](const auto& point) { return point.first >= extent; });
    if (above == points_.begin() || points_.size() == 1) {
        return points_.front().second;
    }
    if (above == points_.end()) {
        return points_.back().second;
    }
    const auto below = above - 1;
    const double way = std::log(extent / below->first) / std::log(above->first / below->first);
    return below->second + way * (above->second - below->second);
}

std::vector<std::string> hardware_names() {
    std::vector<std::string> names;
    for (const ShippedHardware& shipped : shipped_hardware()) {
        names.emplace_back(shipped.name);
    }
    return names;
}

Hardware load_hardware(const std::string& name) {
    for (const ShippedHardware& shipped : shipped_hardware()) {
        if (shipped.name == name) {
            return parse_hardware(std::string(shipped.text), fmt::format("{}.toml", name));
        }
    }
    std::error_code error;
    const std::vector<std::string> names = hardware_names();
    LATHE_CHECK_USAGE(std::filesystem::is_regular_file(name, error),
                      "--hardware {}: neither a file nor one of {}", name, fmt::join(names, ", "));
    std::ifstream stream(name, std::ios::binary);
    std::ostringstream text;
    text << stream.rdbuf();
    LATHE_CHECK_USAGE(stream && text, "--hardware {}: the file cannot be read", name);
    return parse_hardware(text.str(), name);
}

std::string to_toml(const Hardware& hardware, const std::string& comment) {
    std::string text = comment;
    const auto link = [&](const char* section, const Link& values) {
        text += fmt::format("\n[{}]\ngigabytes-per-second = {:.4g}\nlatency-us = {:.4g}\n", section,
                            values.bytes_per_second / 1e9, values.latency_s * 1e6);
    };
    text += fmt::format("[device]\nname = {}\ntarget = \"{}\"\n", quoted_text(hardware.name),
                        hardware.target);
    if (hardware.target == "cpu") {
        text += fmt::format("cores = {}\n", hardware.cores);
    } else {
        text += fmt::format(
            "compute-capability = {}\nmultiprocessors = {}\nshared-memory-per-block = {}\n"
            "shared-memory-per-multiprocessor = {}\n",
            hardware.profile.compute_capability, hardware.profile.num_multiprocessors,
            hardware.profile.shared_memory_per_block,
            hardware.profile.shared_memory_per_multiprocessor);
    }
    text += fmt::format(
        "devices-per-node = {}\nmemory-gib = {}\nreserved-memory-gib = {}\n"
        "memory-gigabytes-per-second = {:.4g}\nf32-teraflops = {:.4g}\nbf16-teraflops = {:.4g}\n"
        "launch-us = {:.3g}\nleast-operation-us = {:.3g}\nwatts = {}\nprice-per-hour = {}\n"
        "currency = {}\n",
        hardware.devices_per_node,
        real_text(static_cast<double>(hardware.memory_bytes) / 1073741824.0),
        real_text(static_cast<double>(hardware.reserved_memory_bytes) / 1073741824.0),
        hardware.memory_bytes_per_second / 1e9, hardware.f32_flops / 1e12,
        hardware.bf16_flops / 1e12, hardware.launch_s * 1e6, hardware.least_operation_s * 1e6,
        real_text(hardware.watts), real_text(hardware.price_per_hour),
        quoted_text(hardware.currency));
    link("within-node", hardware.within_node);
    link("between-nodes", hardware.between_nodes);
    link("host", hardware.host);
    text += fmt::format("\n[fractions]\nlink = {}\n", real_text(hardware.link_fraction));
    for (const auto& [operation_class, otherwise] : kFallbacks) {
        std::string points;
        for (const auto& [extent, fraction] :
             hardware.fractions[static_cast<size_t>(operation_class)].points()) {
            points += fmt::format("{}[{}, {:.4f}]", points.empty() ? "" : ", ", extent, fraction);
        }
        text += fmt::format("{} = [{}]\n", name_of(operation_class), points);
    }
    return text;
}

}  // namespace lathe
