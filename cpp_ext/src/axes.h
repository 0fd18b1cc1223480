// The weights of an axis as one set of kernels wants them, made once per thread and size.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "resample.h"

namespace edgetl {

// Places count from the first input that any output has, so that they hold for a part of a photo.
struct PackedRows {
    Axis axis;
    std::int64_t first;               // that input
    std::int64_t cells;               // most cells of an output
    std::vector<std::int32_t> words;  // (count, cells, words_per_cell)
};

struct PackedColumns {
    std::int64_t first;
    std::int64_t span;  // inputs from there on that have a weight
    Columns columns;
};

// What an axis is asked for: outputs [first, first + count) when `in` samples become `out`.
struct AxisKey {
    std::int64_t in, out, first, count;
    Filter filter;
    const Kernels* kernels;
};

// Rows grouped from the first one on: a window may begin inside a group.
std::shared_ptr<const PackedRows> cached_rows(const AxisKey& key);
// Each window in groups of its own, for Kernels::reduce.
std::shared_ptr<const PackedRows> cached_windows(const AxisKey& key);
std::shared_ptr<const PackedColumns> cached_columns(const AxisKey& key);
std::shared_ptr<const Normal> cached_normal(const float mean[3], const float std[3]);

}  // namespace edgetl
