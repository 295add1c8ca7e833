// Every operation as naive loops over doubles: compute(op) is what kernels/operations.h says.
#pragma once

#include "kernels/operations.h"

namespace lathe::reference {

#define LATHE_DECLARE_COMPUTE(Operation) void compute(const Operation& op);
LATHE_OPERATIONS(LATHE_DECLARE_COMPUTE)
#undef LATHE_DECLARE_COMPUTE

/// act(x) and act'(x); the activation is not none.
double activate(Activation activation, double x);
double activate_derivative(Activation activation, double x);

}  // namespace lathe::reference
