// A build without cuBLASLt: matmul_cublas_unavailable.cpp, linked in the place of
// matmul_cublas.cpp.
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.h"
#include "tests/support/expect_error.h"

namespace lathe {
namespace {

TEST(CublasUnavailable, IsSaidWithTheMend) {
    expect_usage_error([] { make_cuda_backend({.matmul = MatmulLibrary::cublas}); },
                       {"matmul cublas: this lathe was built without cuBLASLt",
                        "(Debian: libcublas-dev)", "or use --matmul native"});
}

TEST(CublasUnavailable, OwnProductsNeedNone) { EXPECT_NE(make_cuda_backend({}), nullptr); }

}  // namespace
}  // namespace lathe
