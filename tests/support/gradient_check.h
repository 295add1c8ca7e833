// Gradients against central finite differences, in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace lathe::test {

/// Expects `gradient[i]` to be d loss / d x[i] for every i, where loss() reads x.
///
/// The difference (f(x + h) - f(x - h)) / 2h is off by h^2 |f'''| / 6 + eps |f| / h (eps = 2^-53
/// times the number of roundings in f, here taken as 100). h = 2e-5 balances the two for
/// derivatives near 1; `scale` bounds |f|, |f'''| and the size of the gradients.
inline void expect_gradient(const std::string& name, std::vector<double>& x,
                            const std::function<double()>& loss,
                            const std::vector<double>& gradient, double scale) {
    constexpr double kStep = 2e-5;
    const double tolerance = scale * (kStep * kStep + 100 * 0x1p-53 / kStep);
    ASSERT_EQ(x.size(), gradient.size()) << name;
    for (size_t i = 0; i < x.size(); ++i) {
        const double kept = x[i];
        x[i] = kept + kStep;
        const double above = loss();
        x[i] = kept - kStep;
        const double below = loss();
        x[i] = kept;
        const double difference = (above - below) / (2 * kStep);
        ASSERT_NEAR(gradient[i], difference, tolerance) << name << "[" << i << "]";
    }
}

}  // namespace lathe::test
