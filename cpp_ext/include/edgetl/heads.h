// Scoring of small heads: plain pointers and sizes, no Python.
//
// Made for a few samples at a time on a device, where one call costs less than the array library's
// way of a dozen; for large batches a BLAS is faster.
#pragma once

#include <cstdint>

namespace edgetl {

// Writes softmax((features * coef^T + intercept) / temperature) to `out`, all sums in double.
//
// features: (n, dim); coef: (classes, dim); intercept: (classes); out: (n, classes); all without
// gaps. Returns false, with `out` unspecified, if a feature or a score is not finite.
bool linear_probabilities(const float* features, std::int64_t n, std::int64_t dim,
                          const double* coef, const double* intercept, std::int64_t classes,
                          double temperature, double* out);

}  // namespace edgetl
