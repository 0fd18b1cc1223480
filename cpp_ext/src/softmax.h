// The exponential and the softmax of the head kernels, the same to the bit on every instruction
// set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "lanes.h"

namespace edgetl {

// exp(x) for x from -infinity to 0, within 2 units in the last place; 0 below -707. Reduction of
// the argument after Cody and Waite, then the Taylor polynomial of degree 13: on half a logarithm
// of 2 to either side its remainder is below 2^-57. Without branches, so that loops become vectors.
EDGETL_INLINE double exp_of_negative(double x) {
    constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
    constexpr double per_two = 1.4426950408889634;
    constexpr double two_high = 6.93147180369123816490e-01;  // 32 bits of log(2), and the rest
    constexpr double two_low = 1.90821492927058770002e-10;
    const double bounded = x > -707.0 ? x : -707.0;
    const double shifted = bounded * per_two + shift;
    const double power = shifted - shift;
    const double r = (bounded - power * two_high) - power * two_low;
    double sum = 1.0 / 6227020800.0;
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * (r * r) + r;
    sum = sum + 1.0;
    std::uint64_t bits = 0, steps = 0;
    std::memcpy(&bits, &sum, sizeof bits);
    std::memcpy(&steps, &shifted, sizeof steps);
    bits += steps << 52;  // the low bits of `shifted` are the power of two, to be multiplied in
    std::memcpy(&sum, &bits, sizeof sum);
    return x > -707.0 ? sum : 0.0;
}

// The largest of `values`; not finite if any of them isn't.
EDGETL_INLINE double largest_of(const double* values, std::int64_t count) {
    double lanes[kLanes], checks[kLanes] = {};
    for (double& lane : lanes) lane = values[0];
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const double value = values[i + lane];
            lanes[lane] = value > lanes[lane] ? value : lanes[lane];
            checks[lane] += value * 0.0;  // not zero only if the value is not finite
        }
    double result = values[0], check = 0;
    for (; i < count; ++i) {
        result = values[i] > result ? values[i] : result;
        check += values[i] * 0.0;
    }
    for (double lane : lanes) result = lane > result ? lane : result;
    for (double lane : checks) check += lane;
    return result + check;
}

template <int kWidth>
EDGETL_INLINE double sum_of(const double* values, std::int64_t count) {
    Eight<kWidth> sums;
    sums.zero();
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        Eight<kWidth> next;
        next.load(values + i);
        sums.add(next);
    }
    double lanes[kLanes];
    sums.store(lanes);
    for (std::int64_t left = i; left < count; ++left) lanes[left - i] += values[left];
    return sum_lanes(lanes);
}

// exp(scores / temperature - their largest) to `out`, their sum to `sum`, the largest quotient to
// `top`; false if a score or a quotient is not finite. `out` may be `scores`.
template <int kWidth>
EDGETL_INLINE bool exponentials(const double* scores, std::int64_t count, double temperature,
                                double* out, double* top, double* sum) {
    if (temperature == 1)
        for (std::int64_t i = 0; i < count; ++i) out[i] = scores[i];
    else
        for (std::int64_t i = 0; i < count; ++i) out[i] = scores[i] / temperature;
    const double largest = largest_of(out, count);
    if (!std::isfinite(largest)) return false;
    // A difference beyond range is minus infinity, whose exponential is the 0 it should be.
    for (std::int64_t i = 0; i < count; ++i) out[i] = exp_of_negative(out[i] - largest);
    *top = largest;
    *sum = sum_of<kWidth>(out, count);
    return true;
}

}  // namespace edgetl
