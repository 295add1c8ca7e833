// --offload optimizer: where a run keeps what is offloaded.
#pragma once

#include <string>

#include "kernels/backend.h"
#include "train/run_config.h"

namespace lathe {

/// Throws UsageError where the run wants to offload and the device or the folder it names cannot:
/// before anything is written.
void check_offload(const RunConfig& config, Backend& backend);

/// config.parallel, its offload folder the run folder where none is named.
ParallelConfig with_offload_folder(const RunConfig& config);

/// How much this rank has offloaded, and where.
std::string offload_text(const RunConfig& config, const Backend& backend);

}  // namespace lathe
