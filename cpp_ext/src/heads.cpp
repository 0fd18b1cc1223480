// Scores of linear heads and their softmax; see the header.
#include "edgetl/heads.h"

#include <algorithm>
#include <cmath>

namespace edgetl {
namespace {

// Independent partial sums, so that the compiler may use vectors without reordering anything.
constexpr std::int64_t kLanes = 8;

double dot(const float* a, const double* b, std::int64_t count) {
    double lanes[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
            lanes[lane] += static_cast<double>(a[i + lane]) * b[i + lane];
    double sum = 0;
    for (; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
    for (double lane : lanes) sum += lane;
    return sum;
}

}  // namespace

bool linear_probabilities(const float* features, std::int64_t n, std::int64_t dim,
                          const double* coef, const double* intercept, std::int64_t classes,
                          double temperature, double* out) {
    for (std::int64_t row = 0; row < n; ++row, features += dim, out += classes) {
        // A weight of zero hides nothing: zero times infinity is not finite either.
        for (std::int64_t c = 0; c < classes; ++c) {
            out[c] = (dot(features, coef + c * dim, dim) + intercept[c]) / temperature;
            if (!std::isfinite(out[c])) return false;
        }
        const double largest = *std::max_element(out, out + classes);
        double sum = 0;
        for (std::int64_t c = 0; c < classes; ++c) sum += out[c] = std::exp(out[c] - largest);
        for (std::int64_t c = 0; c < classes; ++c) out[c] /= sum;
    }
    return true;
}

}  // namespace edgetl
