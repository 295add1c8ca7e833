// The golden models of tests/golden (made by scripts/make_goldens.sh with transformers).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "model/hugging_face_folder.h"

namespace lathe {

inline std::filesystem::path golden_folder(const std::string& family) {
    return std::filesystem::path(LATHE_GOLDEN_FOLDER) / family;
}

/// For each element of the stored tensor, the element of the unit's row that it is.
inline std::vector<int64_t> places_in_row(const HuggingFaceTensor& tensor, int64_t unit_size) {
    std::vector<float> numbers(static_cast<size_t>(unit_size));
    for (size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = static_cast<float>(i);  // exact: test models have fewer than 2^24 elements
    }
    std::vector<float> stored(static_cast<size_t>(tensor.size()));
    to_hugging_face(tensor, numbers, DType::f32, std::as_writable_bytes(std::span(stored)));
    return {stored.begin(), stored.end()};
}

}  // namespace lathe
