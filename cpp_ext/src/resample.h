// Resampling weights of one axis, in the fixed-point arithmetic of Pillow's 8-bit resize.
//
// Knows nothing about images or instruction sets: the kernels repack these weights to their taste.
#pragma once

#include <cstdint>
#include <vector>

#include "edgetl/arithmetic.h"

namespace edgetl {

// The weights of `count` consecutive outputs of an axis.
struct Axis {
    std::int64_t count = 0;
    std::int64_t taps = 0;              // most taps any output has
    std::vector<std::int64_t> start;    // (count) first input of each output, never falling
    std::vector<std::int32_t> length;   // (count) number of taps of each output, at least 1
    std::vector<std::int32_t> weights;  // (count, taps), zero beyond `length`
};

// Weights for outputs [first, first + count) when `in` samples are resized to `out` samples.
Axis make_axis(std::int64_t in, std::int64_t out, std::int64_t first, std::int64_t count,
               Filter filter);

}  // namespace edgetl
