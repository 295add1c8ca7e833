// TensorBoard's event file: a sequence of records, each
//   u64 length | u32 masked crc32c(length) | data | u32 masked crc32c(data)
// whose data is a protobuf message Event {double wall_time = 1; int64 step = 2; string file_version
// = 3; Summary summary = 5}, Summary {repeated Value value = 1}, Value {string tag = 1; float
// simple_value = 2}.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "train/metrics_file.h"

namespace lathe {

struct Scalar {
    std::string_view tag;
    double value = 0.0;  ///< stored as f32: TensorBoard's scalars are
};

class EventFile {
  public:
    /// Goes on with the file at `path`, or creates it. Whole records up to `last_step` stay; what
    /// follows the first torn, damaged or later one is cut off. (0: everything is.)
    EventFile(const std::string& path, int64_t last_step);

    /// Appends one event of the step, now.
    void write(int64_t step, std::span<const Scalar> scalars);
    void sync() { file_.sync(); }

  private:
    AppendFile file_;
};

}  // namespace lathe
