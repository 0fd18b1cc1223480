// Pooling, normalising and rounding of features; see edgetl/pool.h.
#include "edgetl/pool.h"

#include <algorithm>
#include <cmath>

#include "half.h"
#include "lanes.h"

namespace edgetl {
namespace {

// Values rounded and compared at once, in memory that stays in the nearest cache.
constexpr std::int64_t kPiece = 512;
// Channels whose sums over the positions are kept in registers.
constexpr std::int64_t kSide = 32;

// Means over positions that lie side by side.
struct PoolPlanes {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* map, std::int64_t channels, std::int64_t positions,
                                  float* out) {
        const auto count = static_cast<double>(positions);
        for (std::int64_t c = 0; c < channels; ++c, map += positions) {
            Eight<kWidth> sums, next;
            sums.zero();
            std::int64_t i = 0;
            for (; i + kLanes <= positions; i += kLanes) {
                next.load(map + i);
                sums.add(next);
            }
            double lanes[kLanes];
            sums.store(lanes);
            for (std::int64_t left = i; left < positions; ++left)
                lanes[left - i] += static_cast<double>(map[left]);
            out[c] = static_cast<float>(sum_lanes(lanes) / count);
        }
        return true;
    }
};

// Means over positions that lie `channels` apart.
struct PoolPixels {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* map, std::int64_t channels, std::int64_t positions,
                                  float* out) {
        const auto count = static_cast<double>(positions);
        std::int64_t c = 0;
        for (; c + kSide <= channels; c += kSide) {
            Lanes<kSide, kWidth> sums, next;
            sums.zero();
            for (std::int64_t p = 0; p < positions; ++p) {
                next.load(map + p * channels + c);
                sums.add(next);
            }
            double lanes[kSide];
            sums.store(lanes);
            for (std::int64_t i = 0; i < kSide; ++i)
                out[c + i] = static_cast<float>(lanes[i] / count);
        }
        for (; c < channels; ++c) {
            double sum = 0;
            for (std::int64_t p = 0; p < positions; ++p)
                sum += static_cast<double>(map[p * channels + c]);
            out[c] = static_cast<float>(sum / count);
        }
        return true;
    }
};

struct Squares {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* values, std::int64_t count, double* sum) {
        dots<kWidth, 1>(values, values, count, count, sum);
        return true;
    }
};

struct Scale {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* values, std::int64_t count, double factor,
                                  float* out) {
        for (std::int64_t i = 0; i < count; ++i)
            out[i] = static_cast<float>(static_cast<double>(values[i]) * factor);
        return true;
    }
};

// Adds up the squares of the differences of two rows.
struct Differences {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* a, const float* b, std::int64_t count, double* sum) {
        Eight<kWidth> sums, x, y;
        sums.zero();
        std::int64_t i = 0;
        for (; i + kLanes <= count; i += kLanes) {
            x.load(a + i);
            y.load(b + i);
            x.subtract(y);
            sums.add_product(x, x);
        }
        double lanes[kLanes];
        sums.store(lanes);
        for (std::int64_t left = i; left < count; ++left) {
            const double apart = static_cast<double>(a[left]) - static_cast<double>(b[left]);
            lanes[left - i] += apart * apart;
        }
        *sum += sum_lanes(lanes);
        return true;
    }
};

// Writes a row in its storage type; returns the sum of the squares of what that changed.
double store(const float* row, std::int64_t count, Storage storage, void* out, Isa isa) {
    if (storage == Storage::kFloat32) {
        std::copy_n(row, count, static_cast<float*>(out));
        return 0;
    }
    auto* halves = static_cast<std::uint16_t*>(out);
    float kept[kPiece];
    double changed = 0;
    for (std::int64_t start = 0; start < count; start += kPiece) {
        const std::int64_t piece = std::min(kPiece, count - start);
        if (storage == Storage::kFloat16) {
            to_float16(row + start, piece, halves + start, isa);
            from_float16(halves + start, piece, kept, isa);
        } else {
            to_bfloat16(row + start, piece, halves + start, isa);
            from_bfloat16(halves + start, piece, kept, isa);
        }
        dispatch<Differences>(isa, row + start, static_cast<const float*>(kept), piece, &changed);
    }
    return changed;
}

const float* pool_row(const float* map, const PoolTask& task, float* scratch, Isa isa) {
    if (task.positions == 1) return map;
    if (task.layout == Layout::kNchw)
        dispatch<PoolPlanes>(isa, map, task.channels, task.positions, scratch);
    else
        dispatch<PoolPixels>(isa, map, task.channels, task.positions, scratch);
    return scratch;
}

}  // namespace

void pool(const float* maps, std::int64_t n, const PoolTask& task, float* scratch, void* out,
          RowState* states, double* losses, Isa isa) {
    const std::int64_t size = task.storage == Storage::kFloat32 ? 4 : 2;
    auto* place = static_cast<unsigned char*>(out);
    for (std::int64_t i = 0; i < n; ++i, place += size * task.channels) {
        const float* row = pool_row(maps + i * task.channels * task.positions, task, scratch, isa);
        // Squares of float32 neither overflow nor vanish in double: they are finite if all is.
        double squares = 0;
        dispatch<Squares>(isa, row, task.channels, &squares);
        const bool finite = std::isfinite(squares);
        if (task.normalise && finite) {
            const double norm = std::max(std::sqrt(squares), task.eps);
            dispatch<Scale>(isa, row, task.channels, norm > 0 ? 1 / norm : 0.0, scratch);
            row = scratch;
            dispatch<Squares>(isa, row, task.channels, &squares);
        }
        const double changed = store(row, task.channels, task.storage, place, isa);
        states[i] = !finite                   ? RowState::kNotFinite
                    : !std::isfinite(changed) ? RowState::kBeyondRange
                                              : RowState::kFine;
        losses[i] = changed > 0 ? std::sqrt(changed) / std::sqrt(squares) : 0.0;
    }
}

void widen_float16(const std::uint16_t* values, std::int64_t count, float* out, Isa isa) {
    from_float16(values, count, out, isa);
}

}  // namespace edgetl
