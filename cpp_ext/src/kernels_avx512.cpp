// The inner loops for AVX-512 with VNNI: four rows per group, one byte per row in a cell.
//
// A cell's four bytes meet four weights in one vpdpbusd; weights are three signed 8-bit digits.
#include "kernels.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#include <algorithm>

#define EDGETL_AVX512 EDGETL_TARGET("avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")

namespace edgetl {
namespace {

constexpr int kDigits = 3;
constexpr int kRows = 4;

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    auto* bytes = reinterpret_cast<std::int8_t*>(words);
    for (std::int64_t i = 0; i < n; ++i) {
        std::int8_t* cell = bytes + (i + lead) / 4 * (4 * kDigits) + (i + lead) % 4;
        std::int32_t rest = weights[i];
        for (int d = 0; d < kDigits; ++d) {
            const auto digit = static_cast<std::int8_t>(rest & 0xff);
            cell[4 * d] = digit;
            rest = (rest - digit) / 256;
        }
    }
}

// Joins the digits, rounds, and drops the fractional bits.
EDGETL_AVX512 inline __m512i join(__m512i low, __m512i middle, __m512i high) {
    low = _mm512_add_epi32(low, _mm512_set1_epi32(kHalf));
    middle = _mm512_add_epi32(middle, _mm512_slli_epi32(high, 8));
    return _mm512_srai_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(middle, 8)), 22);
}

// Sixteen bytes of each of the four rows, one row per 128-bit lane.
EDGETL_AVX512 inline __m512i load_rows(const std::uint8_t* const* rows, std::int64_t offset) {
    const auto at = [](const std::uint8_t* p) { return reinterpret_cast<const __m128i*>(p); };
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128(at(rows[0] + offset)));
    x = _mm512_inserti32x4(x, _mm_loadu_si128(at(rows[1] + offset)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128(at(rows[2] + offset)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128(at(rows[3] + offset)), 3);
}

// One output column of four rows: lane = row, 32-bit element = red, green, blue, nothing.
// kCells is the number of cells where it is known at compile time, else 0.
template <int kCells>
EDGETL_AVX512 inline __m512i column(const std::uint8_t* const* rows, std::int64_t offset,
                                    const std::int32_t* words, std::int64_t cells) {
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    __m512i low = _mm512_setzero_si512(), middle = low, high = low;
    for (std::int64_t c = 0; c < (kCells != 0 ? kCells : cells); ++c) {
        const __m512i taps = _mm512_shuffle_epi8(load_rows(rows, offset + 12 * c), by_channel);
        low = _mm512_dpbusd_epi32(low, taps, _mm512_set1_epi32(words[kDigits * c]));
        middle = _mm512_dpbusd_epi32(middle, taps, _mm512_set1_epi32(words[kDigits * c + 1]));
        high = _mm512_dpbusd_epi32(high, taps, _mm512_set1_epi32(words[kDigits * c + 2]));
    }
    return join(low, middle, high);
}

template <int kCells>
EDGETL_AVX512 void horizontal_cells(const std::uint8_t* const* rows, const Horizontal& task,
                                    std::uint8_t* group) {
    const __m512i transpose =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i squeeze = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0);
    const std::int64_t step = kDigits * task.cells;
    for (std::int64_t i = 0; i < task.count; i += 4) {
        __m512i sums[4];
        for (int k = 0; k < 4; ++k) {
            const std::int64_t at = std::min(i + k, task.count - 1);
            sums[k] = column<kCells>(rows, task.offsets[at], task.words + at * step, task.cells);
        }
        // Lane = row, element = column -> lane = column, element = channel, byte = row.
        __m512i x = _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]),
                                        _mm512_packs_epi32(sums[2], sums[3]));
        x = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(transpose, x), by_channel);
        if (task.pitch != 0) {
            x = _mm512_permutexvar_epi32(transpose, x);
            std::uint8_t* to = group + 4 * i;
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(x));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4 * task.pitch),
                             _mm512_extracti32x4_epi32(x, 1));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8 * task.pitch),
                             _mm512_extracti32x4_epi32(x, 2));
        } else {
            x = _mm512_permutexvar_epi32(squeeze, x);
            _mm512_mask_storeu_epi32(group + 12 * i, 0x0fff, x);
        }
    }
}

void horizontal(const std::uint8_t* const* rows, const Horizontal& task, std::uint8_t* group) {
    switch (task.cells) {
        case 1:
            return horizontal_cells<1>(rows, task, group);
        case 2:
            return horizontal_cells<2>(rows, task, group);
        case 3:
            return horizontal_cells<3>(rows, task, group);
        default:
            return horizontal_cells<0>(rows, task, group);
    }
}

template <int kGroups, bool kAlternate>
EDGETL_AVX512 void vertical_groups(const std::uint8_t* const* groups, const Vertical& task,
                                   std::int64_t count, float* out) {
    const Normal& normal = *task.normal;
    const __m512 pixel_high = _mm512_set1_ps(kPixelHigh), pixel_low = _mm512_set1_ps(kPixelLow);
    const int plane = kAlternate ? 0 : task.channel;
    __m512 mean = _mm512_set1_ps(normal.mean[plane]);
    __m512 inverse_high = _mm512_set1_ps(normal.inverse_high[plane]);
    __m512 inverse_low = _mm512_set1_ps(normal.inverse_low[plane]);
    int channel = 0;
    for (std::int64_t i = 0; i < count; i += 16) {
        __m512i low = _mm512_setzero_si512(), middle = low, high = low;
        for (std::int64_t g = 0; g < (kGroups != 0 ? kGroups : task.groups); ++g) {
            const __m512i cells = _mm512_loadu_si512(groups[g] + 4 * i);
            const std::int32_t* words = task.words + kDigits * g;
            low = _mm512_dpbusd_epi32(low, cells, _mm512_set1_epi32(words[0]));
            middle = _mm512_dpbusd_epi32(middle, cells, _mm512_set1_epi32(words[1]));
            high = _mm512_dpbusd_epi32(high, cells, _mm512_set1_epi32(words[2]));
        }
        __m512i value = _mm512_max_epi32(join(low, middle, high), _mm512_setzero_si512());
        value = _mm512_min_epi32(value, _mm512_set1_epi32(255));
        const __mmask16 mask = count - i >= 16 ? 0xffff : (1u << (count - i)) - 1u;
        if (kAlternate) {
            mean = _mm512_loadu_ps(normal.mean + channel);
            inverse_high = _mm512_loadu_ps(normal.inverse_high + channel);
            inverse_low = _mm512_loadu_ps(normal.inverse_low + channel);
        }
        if (normal.exact) {
            const __m512 pixel = _mm512_cvtepi32_ps(value);
            __m512 x = _mm512_fmadd_ps(pixel, pixel_high, _mm512_mul_ps(pixel, pixel_low));
            x = _mm512_sub_ps(x, mean);
            x = _mm512_fmadd_ps(x, inverse_high, _mm512_mul_ps(x, inverse_low));
            _mm512_mask_storeu_ps(out + i, mask, x);
        } else {
            alignas(64) std::int32_t values[16];
            _mm512_store_si512(values, value);
            for (std::int64_t k = 0; k < std::min<std::int64_t>(16, count - i); ++k)
                out[i + k] = normal.table[kAlternate ? (channel + k) % 3 : plane][values[k]];
        }
        if (kAlternate) channel = channel == 2 ? 0 : channel + 1;  // 16 = 1 modulo 3
    }
}

template <bool kAlternate>
void vertical_layout(const std::uint8_t* const* groups, const Vertical& task, std::int64_t count,
                     float* out) {
    switch (task.groups) {
        case 1:
            return vertical_groups<1, kAlternate>(groups, task, count, out);
        case 2:
            return vertical_groups<2, kAlternate>(groups, task, count, out);
        case 3:
            return vertical_groups<3, kAlternate>(groups, task, count, out);
        default:
            return vertical_groups<0, kAlternate>(groups, task, count, out);
    }
}

void vertical(const std::uint8_t* const* groups, const Vertical& task, std::int64_t count,
              float* out) {
    if (task.channel < 0) return vertical_layout<true>(groups, task, count, out);
    return vertical_layout<false>(groups, task, count, out);
}

}  // namespace

const Kernels kAvx512Kernels = {kRows, 4, kDigits, 16, pack, horizontal, vertical, reduce_avx2};

}  // namespace edgetl
#endif
