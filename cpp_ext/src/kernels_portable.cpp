// The inner loops in plain C++, for machines without a kernel of their own. One row per group, one
// byte per cell.
#include <algorithm>

#include "kernels.h"
#include "resample.h"

namespace edgetl {
namespace {

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    std::copy(weights, weights + n, words + lead);
}

void horizontal(const Rows& rows, const Horizontal& task, std::uint8_t* const* groups) {
    const std::int64_t pixel_step = task.pitch != 0 ? 1 : 3;
    const std::int64_t channel_step = task.pitch != 0 ? task.pitch : 1;
    for (std::int64_t i = 0; i < task.count; ++i) {
        const std::uint8_t* taps = rows.data + task.offsets[i];
        const std::int32_t* weights = task.words + i * task.cells;
        std::int32_t red = kHalf, green = kHalf, blue = kHalf;
        for (std::int64_t t = 0; t < task.cells; ++t, taps += 3) {
            red += taps[0] * weights[t];
            green += taps[1] * weights[t];
            blue += taps[2] * weights[t];
        }
        std::uint8_t* cell = groups[0] + i * pixel_step;
        cell[0] = to_byte(red);
        cell[channel_step] = to_byte(green);
        cell[2 * channel_step] = to_byte(blue);
    }
}

void vertical(const std::uint8_t* const* groups, const Vertical& task, std::int64_t count,
              float* out) {
    constexpr std::int64_t kBlock = 128;
    std::int32_t sums[kBlock];
    for (std::int64_t first = 0; first < count; first += kBlock) {
        const std::int64_t n = std::min(kBlock, count - first);
        std::fill(sums, sums + n, kHalf);
        for (std::int64_t g = 0; g < task.groups; ++g) {
            const std::uint8_t* row = groups[g] + first;
            const std::int32_t weight = task.words[g];
            for (std::int64_t i = 0; i < n; ++i) sums[i] += row[i] * weight;
        }
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t c = task.channel >= 0 ? task.channel : (first + i) % 3;
            out[first + i] = task.normal->table[c][to_byte(sums[i])];
        }
    }
}

void vertical_bytes(const std::uint8_t* const* groups, const Vertical& task, std::int64_t count,
                    std::uint8_t* out) {
    constexpr std::int64_t kBlock = 128;
    std::int32_t sums[kBlock];
    for (std::int64_t first = 0; first < count; first += kBlock) {
        const std::int64_t n = std::min(kBlock, count - first);
        std::fill(sums, sums + n, kHalf);
        for (std::int64_t g = 0; g < task.groups; ++g) {
            const std::uint8_t* row = groups[g] + first;
            const std::int32_t weight = task.words[g];
            for (std::int64_t i = 0; i < n; ++i) sums[i] += row[i] * weight;
        }
        for (std::int64_t i = 0; i < n; ++i) out[first + i] = to_byte(sums[i]);
    }
}

}  // namespace

void reduce_portable(const Window& window, std::int64_t count, std::uint8_t* out) {
    constexpr std::int64_t kBlock = 128;
    std::int32_t sums[kBlock];
    for (std::int64_t first = 0; first < count; first += kBlock) {
        const std::int64_t n = std::min(kBlock, count - first);
        std::fill(sums, sums + n, kHalf);
        for (std::int64_t r = 0; r < window.rows; ++r) {
            const std::uint8_t* row = window.data + r * window.stride + first;
            const std::int32_t weight = window.weights[r];
            for (std::int64_t i = 0; i < n; ++i) sums[i] += row[i] * weight;
        }
        for (std::int64_t i = 0; i < n; ++i) out[first + i] = to_byte(sums[i]);
    }
}

const Kernels kPortableKernels = {
    1, 1, 1, 1, 3, pack, horizontal, vertical, vertical_bytes, reduce_portable};

}  // namespace edgetl
