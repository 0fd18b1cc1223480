// The inner loops in plain C++, for machines without a kernel of their own. One row per group, one
// byte per cell.
#include <algorithm>

#include "kernels.h"

namespace edgetl {
namespace {

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    std::copy(weights, weights + n, words + lead);
}

void horizontal(const Rows& rows, const Columns& columns, std::int64_t pitch,
                std::uint8_t* const* groups) {
    const std::int64_t pixel_step = pitch != 0 ? 1 : 3;
    const std::int64_t channel_step = pitch != 0 ? pitch : 1;
    for (std::int64_t i = 0; i < columns.count; ++i) {
        const std::uint8_t* taps = rows.data + columns.offsets[i];
        const std::int32_t* weights = columns.words.data() + i * columns.cells;
        std::int32_t red = kHalf, green = kHalf, blue = kHalf;
        for (std::int64_t t = 0; t < columns.cells; ++t, taps += 3) {
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

Columns pack_columns(const Axis& axis) {
    Columns columns = pack_each_column(axis, kPortableKernels, 1, 1, 3);
    columns.run = horizontal;
    return columns;
}

// Bytes of `n` <= kBlock columns of a window of rows, each `rows[r] + first`.
constexpr std::int64_t kBlock = 128;

template <typename Row>
void add_up(const Row& row, const std::int32_t* weights, std::int64_t rows, std::int64_t n,
            std::uint8_t* out) {
    std::int32_t sums[kBlock];
    std::fill(sums, sums + n, kHalf);
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::uint8_t* values = row(r);
        const std::int32_t weight = weights[r];
        for (std::int64_t i = 0; i < n; ++i) sums[i] += values[i] * weight;
    }
    for (std::int64_t i = 0; i < n; ++i) out[i] = to_byte(sums[i]);
}

void write(const std::uint8_t* bytes, std::int64_t n, const Vertical& task, int channel, void* out,
           std::int64_t at) {
    if (task.dtype == Dtype::kUint8) {
        std::copy(bytes, bytes + n, static_cast<std::uint8_t*>(out) + at);
        return;
    }
    float values[kBlock];
    look_up(bytes, n, *task.normal, channel, task.pitch == 0, values);
    if (task.dtype == Dtype::kFloat32)
        std::copy(values, values + n, static_cast<float*>(out) + at);
    else
        std::transform(values, values + n, static_cast<std::uint16_t*>(out) + at,
                       task.dtype == Dtype::kFloat16 ? to_float16 : to_bfloat16);
}

void vertical(const std::uint8_t* const* groups, const Vertical& task, void* out) {
    const int planes = task.pitch == 0 ? 1 : 3;
    for (int c = 0; c < planes; ++c) {
        for (std::int64_t first = 0; first < task.count; first += kBlock) {
            const std::int64_t n = std::min(kBlock, task.count - first);
            const std::int64_t column = c * task.pitch + first;
            std::uint8_t bytes[kBlock];
            add_up([&](std::int64_t g) { return groups[g] + column; }, task.words, task.groups, n,
                   bytes);
            const int channel = task.pitch == 0 ? static_cast<int>(first % 3) : c;
            write(bytes, n, task, channel, out, c * task.step + first);
        }
    }
}

void reduce(const Window& window, std::int64_t count, std::uint8_t* out) {
    for (std::int64_t first = 0; first < count; first += kBlock)
        add_up([&](std::int64_t r) { return window.data + r * window.stride + first; },
               window.words, window.rows, std::min(kBlock, count - first), out + first);
}

}  // namespace

const Kernels kPortableKernels = {1, 1, 1, 1, pack, pack_columns, vertical, reduce};

}  // namespace edgetl
