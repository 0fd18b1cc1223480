// The inner loops for NEON, which every 64-bit ARM processor has: one row per group, one byte per
// cell, weights as they are, since 32-bit multipliers are there.
#include "kernels.h"

#ifdef EDGETL_NEON
#include <arm_neon.h>

#include <cstring>

#define EDGETL_LOOP
#include "kernels_loops.h"

namespace edgetl {
namespace {

// Primitives of kernels_loops.h; a vector is four registers.
struct Neon {
    static constexpr int kRows = 1;
    static constexpr int kBatch = 4;
    static constexpr int kCellBytes = 1;
    static constexpr int kWords = 1;        // words of a cell's weights
    static constexpr int kColumnWords = 4;  // the same where a cell is four taps of a row
    static constexpr int kBlock = 16;

    using Ints = int32x4x4_t;
    using Cells = uint8x16_t;
    using Column = int32x4_t;  // red, green, blue, nothing
    using Weights = int32x4_t;
    using Sum = int32x4x4_t;
    using Floats = float32x4x4_t;
    struct Scale {
        Floats mean, inverse_high, inverse_low;
    };

    static Weights weights(const std::int32_t* words) { return vld1q_dup_s32(words); }

    static Sum begin() {
        const int32x4_t half = vdupq_n_s32(kHalf);
        return {{half, half, half, half}};
    }

    static void add(Sum& sum, Cells cells, Weights weights) {
        const uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(cells)), vmovl_u8(vget_high_u8(cells))};
        for (int h = 0; h < 2; ++h) {
            const auto low = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(halves[h])));
            const auto high = vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(halves[h])));
            sum.val[2 * h] = vmlaq_s32(sum.val[2 * h], low, weights);
            sum.val[2 * h + 1] = vmlaq_s32(sum.val[2 * h + 1], high, weights);
        }
    }

    // Drops the fractional bits.
    static Ints join(const Sum& sum) {
        Ints result;
        for (int k = 0; k < 4; ++k) result.val[k] = vshrq_n_s32(sum.val[k], kPrecisionBits);
        return result;
    }

    static Cells load(const std::uint8_t* cells) { return vld1q_u8(cells); }

    // Tap `t` of sixteen bytes of a row as 32-bit numbers: red, green, blue, zero.
    static int32x4_t tap(uint8x16_t bytes, std::uint8_t t) {
        const std::uint8_t first = static_cast<std::uint8_t>(3 * t);
        const std::uint8_t none = 255;  // beyond the table: zero
        const std::uint8_t places[16] = {first,
                                         none,
                                         none,
                                         none,
                                         static_cast<std::uint8_t>(first + 1),
                                         none,
                                         none,
                                         none,
                                         static_cast<std::uint8_t>(first + 2),
                                         none,
                                         none,
                                         none,
                                         none,
                                         none,
                                         none,
                                         none};
        return vreinterpretq_s32_u8(vqtbl1q_u8(bytes, vld1q_u8(places)));
    }

    template <int kCells>
    static void column(const Rows rows, const std::int32_t* words, std::int64_t cells,
                       Column sums[kBatch]) {
        const std::int64_t n = kCells != 0 ? kCells : cells;
        for (int b = 0; b < kBatch; ++b) sums[b] = vdupq_n_s32(kHalf);
        for (std::int64_t c = 0; c < n; ++c) {
            const int32x4_t weights = vld1q_s32(words + 4 * c);
            for (int b = 0; b < kBatch; ++b) {
                const uint8x16_t bytes = vld1q_u8(rows.data + b * rows.stride + 12 * c);
                sums[b] = vmlaq_laneq_s32(sums[b], tap(bytes, 0), weights, 0);
                sums[b] = vmlaq_laneq_s32(sums[b], tap(bytes, 1), weights, 1);
                sums[b] = vmlaq_laneq_s32(sums[b], tap(bytes, 2), weights, 2);
                sums[b] = vmlaq_laneq_s32(sums[b], tap(bytes, 3), weights, 3);
            }
        }
        for (int b = 0; b < kBatch; ++b) sums[b] = vshrq_n_s32(sums[b], kPrecisionBits);
    }

    // Clips to bytes, in order.
    static uint8x16_t to_bytes(const int32x4_t sums[4]) {
        const uint16x8_t low = vcombine_u16(vqmovun_s32(sums[0]), vqmovun_s32(sums[1]));
        const uint16x8_t high = vcombine_u16(vqmovun_s32(sums[2]), vqmovun_s32(sums[3]));
        return vcombine_u8(vqmovn_u16(low), vqmovn_u16(high));
    }

    // Four columns of one row.
    static void store_columns(const Column sums[4], std::uint8_t* group, std::int64_t i,
                              std::int64_t pitch) {
        const uint8x16_t bytes = to_bytes(sums);
        if (pitch == 0) {
            // The last four bytes are overwritten by the next store.
            const std::uint8_t pixels[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 3, 3, 3};
            vst1q_u8(group + 3 * i, vqtbl1q_u8(bytes, vld1q_u8(pixels)));
            return;
        }
        const std::uint8_t planes[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 3, 3, 3};
        const auto sorted = vreinterpretq_u32_u8(vqtbl1q_u8(bytes, vld1q_u8(planes)));
        std::uint8_t* to = group + i;
        const std::uint32_t red = vgetq_lane_u32(sorted, 0), green = vgetq_lane_u32(sorted, 1);
        const std::uint32_t blue = vgetq_lane_u32(sorted, 2);
        std::memcpy(to, &red, 4);
        std::memcpy(to + pitch, &green, 4);
        std::memcpy(to + 2 * pitch, &blue, 4);
    }

    static void interleave(const std::uint8_t* row, std::int64_t, std::int64_t, Cells cells[1]) {
        cells[0] = vld1q_u8(row);
    }

    static void store_block(std::uint8_t* out, const Ints sums[1]) { store(out, sums[0]); }

    static Floats load_floats(const float* values) {
        return {{vld1q_f32(values), vld1q_f32(values + 4), vld1q_f32(values + 8),
                 vld1q_f32(values + 12)}};
    }

    // Of one channel, or of channels in turn from one on.
    static Scale scale(const Normal& normal, int channel, bool alternate) {
        const auto constant = [&](const float* values) {
            if (alternate) return load_floats(values + channel);
            const float32x4_t one = vdupq_n_f32(values[channel]);
            return Floats{{one, one, one, one}};
        };
        return {constant(normal.mean), constant(normal.inverse_high), constant(normal.inverse_low)};
    }

    static Floats normalise(const Ints& sums, const Scale& scale) {
        Floats result;
        for (int k = 0; k < 4; ++k) {
            const int32x4_t bytes =
                vminq_s32(vmaxq_s32(sums.val[k], vdupq_n_s32(0)), vdupq_n_s32(255));
            const float32x4_t pixel = vcvtq_f32_s32(bytes);
            const float32x4_t unit =
                vfmaq_f32(vmulq_n_f32(pixel, kPixelLow), pixel, vdupq_n_f32(kPixelHigh));
            const float32x4_t x = vsubq_f32(unit, scale.mean.val[k]);
            result.val[k] =
                vfmaq_f32(vmulq_f32(x, scale.inverse_low.val[k]), x, scale.inverse_high.val[k]);
        }
        return result;
    }

    static void store(float* out, const Floats& values) {
        for (int k = 0; k < 4; ++k) vst1q_f32(out + 4 * k, values.val[k]);
    }

    static void store(Float16* out, const Floats& values) {
        for (int k = 0; k < 4; ++k)
            vst1_u16(&out[4 * k].bits, vreinterpret_u16_f16(vcvt_f16_f32(values.val[k])));
    }

    // As to_bfloat16; there is no NaN.
    static void store(Bfloat16* out, const Floats& values) {
        for (int k = 0; k < 4; ++k) {
            const uint32x4_t bits = vreinterpretq_u32_f32(values.val[k]);
            const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
            const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
            vst1_u16(&out[4 * k].bits, vshrn_n_u32(rounded, 16));
        }
    }

    static void store(std::uint8_t* out, const Ints& sums) { vst1q_u8(out, to_bytes(sums.val)); }
};

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    std::copy(weights, weights + n, words + lead);
}

Columns pack_columns(const Axis& axis) {
    Columns columns = pack_each_column(axis, kNeonKernels, 4, kColumnStep, 16);
    columns.run = run_columns<Neon>;
    return columns;
}

}  // namespace

const Kernels kNeonKernels = {Neon::kRows, Neon::kBatch, Neon::kCellBytes, Neon::kWords,
                              pack,        pack_columns, vertical<Neon>,   reduce<Neon>};

}  // namespace edgetl
#endif
