// Matrix products with few rows, as in generation: bound by the memory that holds b.
#pragma once

#include "kernels/cpu/threads.h"
#include "kernels/operations.h"

namespace lathe::cpu {

/// Workspace of run_few_rows.
int64_t few_rows_bytes(const Matmul& op);
/// The whole of Matmul. Each sum's order depends on K' and the transposes only.
void run_few_rows(const Matmul& op, const Team& team);

}  // namespace lathe::cpu
