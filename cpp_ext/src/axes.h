// The weights of an axis as one set of kernels wants them, made once per thread and size.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "resample.h"

namespace edgetl {

enum class Direction { kHorizontal, kVertical };

// An axis with its weights packed for one set of kernels. Places are counted from the first input
// that any output has, so that they hold for a part of a photo too.
struct PackedAxis {
    Axis axis;
    std::int64_t first;                 // that input
    std::int64_t span;                  // inputs from there on that have a weight
    std::int64_t cells;                 // cells per output
    std::vector<std::int64_t> offsets;  // horizontal only: bytes from `first` to the first tap
    std::vector<std::int32_t> words;    // (count, cells, words_per_cell)
};

// Weights for outputs [first, first + count) when `in` samples are resized to `out`.
std::shared_ptr<const PackedAxis> cached_axis(std::int64_t in, std::int64_t out, std::int64_t first,
                                              std::int64_t count, Filter filter,
                                              Direction direction, const Kernels& kernels);

std::shared_ptr<const Normal> cached_normal(const float mean[3], const float std[3]);

inline std::int64_t round_up(std::int64_t value, std::int64_t step) {
    return (value + step - 1) / step * step;
}

}  // namespace edgetl
