// Value<T>: how a field of type T is read, written and checked by itself. Part of run_fields.cpp,
// where the table is.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "train/run_config.h"
#include "train/run_fields.h"

namespace lathe {

template <typename Enum>
struct Choice {
    Enum value;
    std::string_view name;
};
template <typename Enum>
Choice(Enum, const char*) -> Choice<Enum>;

template <typename Enum>
inline constexpr int kChoices = Enum::has_no_choices;
template <>
inline constexpr std::array kChoices<NormKind> = {Choice{NormKind::layernorm, "layernorm"},
                                                  Choice{NormKind::rmsnorm, "rmsnorm"}};
template <>
inline constexpr std::array kChoices<Positions> = {Choice{Positions::learned, "learned"},
                                                   Choice{Positions::rotary, "rotary"},
                                                   Choice{Positions::alibi, "alibi"}};
template <>
inline constexpr std::array kChoices<MlpKind> = {Choice{MlpKind::gelu_exact, "gelu-exact"},
                                                 Choice{MlpKind::gelu_tanh, "gelu-tanh"},
                                                 Choice{MlpKind::swiglu, "swiglu"}};
template <>
inline constexpr std::array kChoices<Biases> = {
    Choice{Biases::none, "none"}, Choice{Biases::qkv, "qkv"}, Choice{Biases::all, "all"}};
template <>
inline constexpr std::array kChoices<InitRule> = {
    Choice{InitRule::plain, "plain"}, Choice{InitRule::scaled_residual, "scaled-residual"}};
template <>
inline constexpr std::array kChoices<ScheduleKind> = {
    Choice{ScheduleKind::constant, "constant"}, Choice{ScheduleKind::cosine, "cosine"},
    Choice{ScheduleKind::linear, "linear"},
    Choice{ScheduleKind::warmup_stable_decay, "warmup-stable-decay"}};
template <>
inline constexpr std::array kChoices<Recompute> = {Choice{Recompute::none, "none"},
                                                   Choice{Recompute::selective, "selective"},
                                                   Choice{Recompute::full, "full"}};
template <>
inline constexpr std::array kChoices<Reduction> = {Choice{Reduction::ordered, "ordered"},
                                                   Choice{Reduction::native, "native"}};
template <>
inline constexpr std::array kChoices<Offload> = {Choice{Offload::none, "none"},
                                                 Choice{Offload::optimizer, "optimizer"}};
template <>
inline constexpr std::array kChoices<DType> = {Choice{DType::f32, "f32"},
                                               Choice{DType::bf16, "bf16"}};
template <>
inline constexpr std::array kChoices<DeviceKind> = {
    Choice{DeviceKind::automatic, "auto"}, Choice{DeviceKind::cpu, "cpu"},
    Choice{DeviceKind::cuda, "cuda"}, Choice{DeviceKind::reference, "reference"}};
template <>
inline constexpr std::array kChoices<MatmulLibrary> = {Choice{MatmulLibrary::native, "native"},
                                                       Choice{MatmulLibrary::cublas, "cublas"}};
template <>
inline constexpr std::array kChoices<ComputeDType> = {Choice{ComputeDType::automatic, "auto"},
                                                      Choice{ComputeDType::f32, "f32"},
                                                      Choice{ComputeDType::bf16, "bf16"}};

/// How a value of type T is read, written and checked by itself.
template <typename T>
struct Value {
    static_assert(std::is_enum_v<T>);
    static constexpr FieldKind kKind = FieldKind::text;

    static std::vector<std::string> choices() {
        std::vector<std::string> names;
        for (const auto& choice : kChoices<T>) {
            names.emplace_back(choice.name);
        }
        return names;
    }
    static std::string expectation() {
        return fmt::format("must be one of {}", fmt::join(choices(), ", "));
    }
    static bool parse(std::string_view text, T& value) {
        for (const auto& choice : kChoices<T>) {
            if (choice.name == text) {
                value = choice.value;
                return true;
            }
        }
        return false;
    }
    static std::string text(T value) {
        for (const auto& choice : kChoices<T>) {
            if (choice.value == value) {
                return std::string(choice.name);
            }
        }
        return "?";
    }
    static std::string toml(T value) { return quoted_text(text(value)); }
    static std::string complaint(T value, const FieldRange&) {
        return text(value) == "?" ? expectation() : "";
    }
};

template <typename T>
requires std::is_arithmetic_v<T>
struct Number {
    static std::vector<std::string> choices() { return {}; }
    /// The whole of `text`, in range of T.
    static bool parse(std::string_view text, T& value) {
        const char* end = text.data() + text.size();
        T parsed{};
        const auto result = std::from_chars(text.data(), end, parsed);
        if (result.ec != std::errc() || result.ptr != end || !std::isfinite(double(parsed))) {
            return false;
        }
        value = parsed;
        return true;
    }
    static std::string complaint(T value, const FieldRange& range) {
        return range.contains(static_cast<double>(value)) ? "" : range.text;
    }
};

template <>
struct Value<int64_t> : Number<int64_t> {
    static constexpr FieldKind kKind = FieldKind::integer;
    static std::string expectation() { return "must be an integer"; }
    static std::string text(int64_t value) { return fmt::format("{}", value); }
    static std::string toml(int64_t value) { return text(value); }
};

template <>
struct Value<double> : Number<double> {
    static constexpr FieldKind kKind = FieldKind::real;
    static std::string expectation() { return "must be a finite number"; }
    static std::string text(double value) { return fmt::format("{}", value); }
    static std::string toml(double value) { return real_text(value); }
};

template <>
struct Value<bool> {
    static constexpr FieldKind kKind = FieldKind::boolean;
    static std::vector<std::string> choices() { return {}; }
    static std::string expectation() { return "must be true or false"; }
    static bool parse(std::string_view text, bool& value) {
        value = text == "true";
        return value || text == "false";
    }
    static std::string text(bool value) { return value ? "true" : "false"; }
    static std::string toml(bool value) { return text(value); }
    static std::string complaint(bool, const FieldRange&) { return ""; }
};

template <>
struct Value<std::string> {
    static constexpr FieldKind kKind = FieldKind::text;
    static std::vector<std::string> choices() { return {}; }
    static std::string expectation() { return "must be text"; }
    static bool parse(std::string_view text, std::string& value) {
        value = text;
        return true;
    }
    static std::string text(const std::string& value) { return value; }
    static std::string toml(const std::string& value) { return quoted_text(value); }
    static std::string complaint(const std::string& value, const FieldRange&) {
        try {
            quoted_text(value);
            return "";
        } catch (const UsageError& error) {
            return error.what();
        }
    }
};

}  // namespace lathe
