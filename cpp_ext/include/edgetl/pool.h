// From feature maps to what a cache stores, in one pass: mean over the positions, L2 normalisation,
// rounding to the storage type, and a report of what the rounding cost.
//
// Plain pointers and sizes, no Python, nothing allocated. Sums are taken in double in an order that
// depends on the sizes alone, so every instruction set gives the same bits.
#pragma once

#include <cstdint>

#include "edgetl/preprocess.h"  // Isa, Layout

namespace edgetl {

enum class Storage { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

// How a row came out.
enum class RowState : std::uint8_t {
    kFine = 0,
    kNotFinite = 1,   // a value, or a mean, is NaN or infinite
    kBeyondRange = 2  // finite, but too large for the storage type
};

struct PoolTask {
    std::int64_t channels;
    std::int64_t positions;  // height * width of a map; 1: the maps are features already
    Layout layout;           // kNchw: positions of a channel side by side; kNhwc: channels
    bool normalise;          // divide by the Euclidean norm, but not by less than `eps`
    double eps;              // not negative; rows of zeros stay zeros also with 0
    Storage storage;
};

// maps: (n, channels, positions) or (n, positions, channels) without gaps; scratch: (channels);
// out: (n, channels) of float or std::uint16_t; states: (n); losses: (n), what rounding to the
// storage type changed, relative to the row's Euclidean norm (0 for a row of zeros, and unspecified
// unless the row is fine). The mean is rounded to float32, and so is the normalised value. Rows
// that are not fine are written too, as the storage type has them. `positions` is at least 1.
void pool(const float* maps, std::int64_t n, const PoolTask& task, float* scratch, void* out,
          RowState* states, double* losses, Isa isa);

// Exact; NaN stays NaN.
void widen_float16(const std::uint16_t* values, std::int64_t count, float* out, Isa isa);

}  // namespace edgetl
