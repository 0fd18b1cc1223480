// The inner loops for AVX-512 with VNNI: four rows per group, one byte per row in a cell.
//
// A cell's four bytes meet four weights in one vpdpbusd; weights are three signed 8-bit digits.
// Sums run from the highest digit down, shifted on the way, so that joining the digits costs two
// shifts.
#include "kernels.h"
#include "resample.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#include <algorithm>

#define EDGETL_AVX512 EDGETL_TARGET("avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")

namespace edgetl {
namespace {

constexpr int kDigits = 3;
constexpr int kRows = 4;
constexpr int kBatch = 2;

// One half in units of the highest digit: where a sum of products starts.
constexpr std::int32_t kHalfHigh = kHalf >> 16;

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

// Joins the sums of the three digits and drops the fractional bits. One sum per digit: a single
// one, shifted on the way, would make too long a chain.
EDGETL_AVX512 inline __m512i join(const __m512i digits[kDigits]) {
    const __m512i upper = _mm512_add_epi32(digits[1], _mm512_slli_epi32(digits[2], 8));
    return _mm512_srai_epi32(_mm512_add_epi32(digits[0], _mm512_slli_epi32(upper, 8)),
                             kPrecisionBits);
}

// Sixteen bytes of four consecutive rows, one row per 128-bit lane, taps sorted by channel.
EDGETL_AVX512 inline __m512i load_taps(const std::uint8_t* rows, std::int64_t stride) {
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    const auto at = [](const std::uint8_t* p) { return reinterpret_cast<const __m128i*>(p); };
    const std::uint8_t* third = rows + 2 * stride;
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128(at(rows)));
    x = _mm512_inserti32x4(x, _mm_loadu_si128(at(rows + stride)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128(at(third)), 2);
    x = _mm512_inserti32x4(x, _mm_loadu_si128(at(third + stride)), 3);
    return _mm512_shuffle_epi8(x, by_channel);
}

// One output column of both groups: lane = row, 32-bit element = red, green, blue, nothing.
// kCells is the number of cells where it is known at compile time, else 0.
template <int kCells>
EDGETL_AVX512 inline void column(const std::uint8_t* rows, std::int64_t stride,
                                 const std::int32_t* words, std::int64_t cells, __m512i& first,
                                 __m512i& second) {
    const std::int64_t n = kCells != 0 ? kCells : cells;
    const std::uint8_t* lower = rows + 4 * stride;
    const __m512i zero = _mm512_setzero_si512();
    __m512i a[kDigits] = {zero, zero, _mm512_set1_epi32(kHalfHigh)};
    __m512i b[kDigits] = {zero, zero, _mm512_set1_epi32(kHalfHigh)};
    for (std::int64_t c = 0; c < n; ++c) {
        const __m512i taps_a = load_taps(rows + 12 * c, stride);
        const __m512i taps_b = load_taps(lower + 12 * c, stride);
        for (int d = 0; d < kDigits; ++d) {
            const __m512i weights = _mm512_set1_epi32(words[kDigits * c + d]);
            a[d] = _mm512_dpbusd_epi32(a[d], taps_a, weights);
            b[d] = _mm512_dpbusd_epi32(b[d], taps_b, weights);
        }
    }
    first = join(a);
    second = join(b);
}

// Four columns of one group, as bytes.
EDGETL_AVX512 inline void store_columns(const __m512i sums[4], std::uint8_t* group, std::int64_t i,
                                        std::int64_t pitch) {
    const __m512i transpose =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i squeeze = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0);
    // Lane = row, element = column -> lane = column, element = channel, byte = row.
    __m512i x = _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]),
                                    _mm512_packs_epi32(sums[2], sums[3]));
    x = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(transpose, x), by_channel);
    if (pitch == 0) {
        _mm512_mask_storeu_epi32(group + 12 * i, 0x0fff, _mm512_permutexvar_epi32(squeeze, x));
        return;
    }
    x = _mm512_permutexvar_epi32(transpose, x);
    const auto at = [](std::uint8_t* p) { return reinterpret_cast<__m128i*>(p); };
    std::uint8_t* to = group + 4 * i;
    _mm_storeu_si128(at(to), _mm512_castsi512_si128(x));
    _mm_storeu_si128(at(to + 4 * pitch), _mm512_extracti32x4_epi32(x, 1));
    _mm_storeu_si128(at(to + 8 * pitch), _mm512_extracti32x4_epi32(x, 2));
}

// Members are copied to locals here and below: stores through vector or byte pointers could change
// anything that the compiler can't see to be local.
template <int kCells>
EDGETL_AVX512 void horizontal_cells(const Rows rows, const Horizontal task,
                                    std::uint8_t* const* groups) {
    std::uint8_t *const upper = groups[0], *const lower = groups[1];
    const std::int32_t* words = task.words;
    for (std::int64_t i = 0; i < task.count; i += 4) {
        __m512i first[4], second[4];
        for (int k = 0; k < 4; ++k) {
            column<kCells>(rows.data + task.offsets[i + k], rows.stride, words, task.cells,
                           first[k], second[k]);
            words += kDigits * (kCells != 0 ? kCells : task.cells);
        }
        store_columns(first, upper, i, task.pitch);
        store_columns(second, lower, i, task.pitch);
    }
}

void horizontal(const Rows& rows, const Horizontal& task, std::uint8_t* const* groups) {
    switch (task.cells) {
        case 1:
            return horizontal_cells<1>(rows, task, groups);
        case 2:
            return horizontal_cells<2>(rows, task, groups);
        case 3:
            return horizontal_cells<3>(rows, task, groups);
        default:
            return horizontal_cells<0>(rows, task, groups);
    }
}

// A window of groups with its weights in registers, where it is small.
template <int kGroups>
struct Column {
    const std::uint8_t* groups[kGroups + 1];
    __m512i weights[kGroups + 1][kDigits];

    EDGETL_AVX512 Column(const std::uint8_t* const* data, const Vertical& task) {
        for (int g = 0; g < kGroups; ++g) {
            groups[g] = data[g];
            for (int d = 0; d < kDigits; ++d)
                weights[g][d] = _mm512_set1_epi32(task.words[kDigits * g + d]);
        }
    }

    EDGETL_AVX512 __m512i value(std::int64_t i) const {
        __m512i digits[kDigits] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                   _mm512_set1_epi32(kHalfHigh)};
        for (int g = 0; g < kGroups; ++g) {
            const __m512i cells = _mm512_loadu_si512(groups[g] + 4 * i);
            for (int d = 0; d < kDigits; ++d)
                digits[d] = _mm512_dpbusd_epi32(digits[d], cells, weights[g][d]);
        }
        return join(digits);
    }
};

// A window of any size.
template <>
struct Column<0> {
    const std::uint8_t* const* groups;
    const std::int32_t* words;
    std::int64_t count;

    Column(const std::uint8_t* const* data, const Vertical& task)
        : groups(data), words(task.words), count(task.groups) {}

    EDGETL_AVX512 __m512i value(std::int64_t i) const {
        __m512i digits[kDigits] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                   _mm512_set1_epi32(kHalfHigh)};
        for (std::int64_t g = 0; g < count; ++g) {
            const __m512i cells = _mm512_loadu_si512(groups[g] + 4 * i);
            for (int d = 0; d < kDigits; ++d)
                digits[d] = _mm512_dpbusd_epi32(digits[d], cells,
                                                _mm512_set1_epi32(words[kDigits * g + d]));
        }
        return join(digits);
    }
};

template <int kGroups, bool kAlternate>
EDGETL_AVX512 void vertical_groups(const std::uint8_t* const* groups, const Vertical& task,
                                   const std::int64_t count, float* const out) {
    const Column<kGroups> column(groups, task);
    const Normal& normal = *task.normal;
    const bool exact = normal.exact;
    int channel = kAlternate ? 0 : task.channel;
    __m512 mean = _mm512_set1_ps(normal.mean[channel]);
    __m512 inverse_high = _mm512_set1_ps(normal.inverse_high[channel]);
    __m512 inverse_low = _mm512_set1_ps(normal.inverse_low[channel]);
    __m512i next = column.value(0);
    for (std::int64_t i = 0; i < count; i += 16) {
        // The sums of the next columns begin before these are normalised: the two long chains of
        // dependent instructions then overlap.
        __m512i value = next;
        next = column.value(i + 16 < count ? i + 16 : 0);
        value = _mm512_max_epi32(value, _mm512_setzero_si512());
        value = _mm512_min_epi32(value, _mm512_set1_epi32(255));
        if (kAlternate) {
            mean = _mm512_loadu_ps(normal.mean + channel);
            inverse_high = _mm512_loadu_ps(normal.inverse_high + channel);
            inverse_low = _mm512_loadu_ps(normal.inverse_low + channel);
        }
        const __m512 pixel = _mm512_cvtepi32_ps(value);
        __m512 x = _mm512_fmadd_ps(pixel, _mm512_set1_ps(kPixelHigh),
                                   _mm512_mul_ps(pixel, _mm512_set1_ps(kPixelLow)));
        x = _mm512_sub_ps(x, mean);
        x = _mm512_fmadd_ps(x, inverse_high, _mm512_mul_ps(x, inverse_low));
        if (exact && count - i >= 16) {
            _mm512_storeu_ps(out + i, x);
        } else if (exact) {
            _mm512_mask_storeu_ps(out + i, static_cast<__mmask16>((1u << (count - i)) - 1u), x);
        } else {
            alignas(64) std::int32_t values[16];
            _mm512_store_si512(values, value);
            look_up(values, std::min<std::int64_t>(16, count - i), normal, channel, kAlternate,
                    out + i);
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

template <int kGroups>
EDGETL_AVX512 void bytes_groups(const std::uint8_t* const* groups, const Vertical& task,
                                const std::int64_t count, std::uint8_t* const out) {
    const Column<kGroups> column(groups, task);
    for (std::int64_t i = 0; i < count; i += 16) {
        const __m512i value = _mm512_max_epi32(column.value(i), _mm512_setzero_si512());
        const __m128i bytes = _mm512_cvtusepi32_epi8(value);
        if (count - i >= 16) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
        } else {
            _mm_mask_storeu_epi8(out + i, static_cast<__mmask16>((1u << (count - i)) - 1u), bytes);
        }
    }
}

void vertical_bytes(const std::uint8_t* const* groups, const Vertical& task, std::int64_t count,
                    std::uint8_t* out) {
    switch (task.groups) {
        case 1:
            return bytes_groups<1>(groups, task, count, out);
        case 2:
            return bytes_groups<2>(groups, task, count, out);
        case 3:
            return bytes_groups<3>(groups, task, count, out);
        default:
            return bytes_groups<0>(groups, task, count, out);
    }
}

}  // namespace

const Kernels kAvx512Kernels = {kRows, kBatch,     4,        kDigits,        16,
                                pack,  horizontal, vertical, vertical_bytes, reduce_avx2};

}  // namespace edgetl
#endif
