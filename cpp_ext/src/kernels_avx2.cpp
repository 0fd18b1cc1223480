// The inner loops for AVX2: two rows per group, one 16-bit number per row in a cell.
//
// A cell's two numbers meet two weights in one vpmaddwd; weights are a signed 16-bit digit and an
// unsigned 8-bit one.
#include "kernels.h"
#include "resample.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#include <algorithm>

#define EDGETL_AVX2 EDGETL_TARGET("avx2,fma")

namespace edgetl {
namespace {

constexpr int kDigits = 2;
constexpr int kRows = 2;
constexpr int kBatch = 2;

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    auto* halves = reinterpret_cast<std::int16_t*>(words);
    for (std::int64_t i = 0; i < n; ++i) {
        std::int16_t* cell = halves + (i + lead) / 2 * (2 * kDigits) + (i + lead) % 2;
        const auto low = static_cast<std::int16_t>(weights[i] & 0xff);
        cell[0] = low;
        cell[2] = static_cast<std::int16_t>((weights[i] - low) / 256);
    }
}

EDGETL_AVX2 inline __m256i multiply(__m256i sum, __m256i cells, __m256i weights) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(cells, weights));
}

// Joins the digits and drops the fractional bits. Sums of low digits start from one half.
EDGETL_AVX2 inline __m256i join(__m256i low, __m256i high) {
    return _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_slli_epi32(high, 8)), kPrecisionBits);
}

// Sixteen bytes of two rows, one row per 128-bit lane.
EDGETL_AVX2 inline __m256i load_pair(const std::uint8_t* row, std::int64_t stride) {
    const auto at = [](const std::uint8_t* p) { return reinterpret_cast<const __m128i*>(p); };
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at(row))),
                                   _mm_loadu_si128(at(row + stride)), 1);
}

// One output column of both groups: lane = row, 32-bit element = red, green, blue, nothing.
// kCells is the number of cells where it is known at compile time, else 0.
template <int kCells>
EDGETL_AVX2 inline void column(const std::uint8_t* rows, std::int64_t stride,
                               const std::int32_t* words, std::int64_t cells, __m256i& first,
                               __m256i& second) {
    const __m256i even = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const std::int64_t n = kCells != 0 ? kCells : cells;
    __m256i low_a = _mm256_set1_epi32(kHalf), low_b = low_a;
    __m256i high_a = _mm256_setzero_si256(), high_b = high_a;
    for (std::int64_t c = 0; c < n; c += 2, rows += 12, words += 2 * kDigits) {
        const __m256i a = load_pair(rows, stride), b = load_pair(rows + 2 * stride, stride);
        __m256i taps_a = _mm256_shuffle_epi8(a, even), taps_b = _mm256_shuffle_epi8(b, even);
        __m256i low = _mm256_set1_epi32(words[0]), high = _mm256_set1_epi32(words[1]);
        low_a = multiply(low_a, taps_a, low);
        low_b = multiply(low_b, taps_b, low);
        high_a = multiply(high_a, taps_a, high);
        high_b = multiply(high_b, taps_b, high);
        if (c + 1 == n) break;
        taps_a = _mm256_shuffle_epi8(a, odd), taps_b = _mm256_shuffle_epi8(b, odd);
        low = _mm256_set1_epi32(words[2]), high = _mm256_set1_epi32(words[3]);
        low_a = multiply(low_a, taps_a, low);
        low_b = multiply(low_b, taps_b, low);
        high_a = multiply(high_a, taps_a, high);
        high_b = multiply(high_b, taps_b, high);
    }
    first = join(low_a, high_a);
    second = join(low_b, high_b);
}

// Four columns of one group, as pairs of 16-bit numbers.
EDGETL_AVX2 inline void store_columns(const __m256i sums[4], std::uint8_t* group, std::int64_t i,
                                      std::int64_t pitch) {
    const __m256i top = _mm256_set1_epi16(255);
    const auto at = [](std::uint8_t* p) { return reinterpret_cast<__m128i*>(p); };
    __m128i cells[4];  // one column each: red, green, blue, nothing
    for (int k = 0; k < 4; k += 2) {
        const __m256i both = _mm256_min_epu16(_mm256_packus_epi32(sums[k], sums[k + 1]), top);
        const __m128i row0 = _mm256_castsi256_si128(both);
        const __m128i row1 = _mm256_extracti128_si256(both, 1);
        cells[k] = _mm_unpacklo_epi16(row0, row1);
        cells[k + 1] = _mm_unpackhi_epi16(row0, row1);
    }
    if (pitch == 0) {
        // Each store's last element is overwritten by the next store.
        for (int k = 0; k < 4; ++k) _mm_storeu_si128(at(group + 12 * (i + k)), cells[k]);
        return;
    }
    const __m128i ab_rg = _mm_unpacklo_epi32(cells[0], cells[1]);
    const __m128i cd_rg = _mm_unpacklo_epi32(cells[2], cells[3]);
    const __m128i ab_b = _mm_unpackhi_epi32(cells[0], cells[1]);
    const __m128i cd_b = _mm_unpackhi_epi32(cells[2], cells[3]);
    std::uint8_t* to = group + 4 * i;
    _mm_storeu_si128(at(to), _mm_unpacklo_epi64(ab_rg, cd_rg));
    _mm_storeu_si128(at(to + 4 * pitch), _mm_unpackhi_epi64(ab_rg, cd_rg));
    _mm_storeu_si128(at(to + 8 * pitch), _mm_unpacklo_epi64(ab_b, cd_b));
}

// Members are copied to locals here and below: stores through vector or byte pointers could change
// anything that the compiler can't see to be local.
template <int kCells>
EDGETL_AVX2 void horizontal_cells(const Rows rows, const Horizontal task,
                                  std::uint8_t* const* groups) {
    std::uint8_t *const upper = groups[0], *const lower = groups[1];
    const std::int32_t* words = task.words;
    for (std::int64_t i = 0; i < task.count; i += 4) {
        __m256i first[4], second[4];
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
        case 4:
            return horizontal_cells<4>(rows, task, groups);
        default:
            return horizontal_cells<0>(rows, task, groups);
    }
}

// A window of groups with its weights in registers, where it is small.
template <int kGroups>
struct Column {
    const std::uint8_t* groups[kGroups + 1];
    __m256i weights[kGroups + 1][kDigits];

    EDGETL_AVX2 Column(const std::uint8_t* const* data, const Vertical& task) {
        for (int g = 0; g < kGroups; ++g) {
            groups[g] = data[g];
            for (int d = 0; d < kDigits; ++d)
                weights[g][d] = _mm256_set1_epi32(task.words[kDigits * g + d]);
        }
    }

    EDGETL_AVX2 __m256i value(std::int64_t i) const {
        __m256i low = _mm256_set1_epi32(kHalf), high = _mm256_setzero_si256();
        for (int g = 0; g < kGroups; ++g) {
            const __m256i cells =
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(groups[g] + 4 * i));
            low = multiply(low, cells, weights[g][0]);
            high = multiply(high, cells, weights[g][1]);
        }
        return join(low, high);
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

    EDGETL_AVX2 __m256i value(std::int64_t i) const {
        __m256i low = _mm256_set1_epi32(kHalf), high = _mm256_setzero_si256();
        for (std::int64_t g = 0; g < count; ++g) {
            const __m256i cells =
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(groups[g] + 4 * i));
            low = multiply(low, cells, _mm256_set1_epi32(words[kDigits * g]));
            high = multiply(high, cells, _mm256_set1_epi32(words[kDigits * g + 1]));
        }
        return join(low, high);
    }
};

template <int kGroups, bool kAlternate>
EDGETL_AVX2 void vertical_groups(const std::uint8_t* const* groups, const Vertical& task,
                                 const std::int64_t count, float* const out) {
    const Column<kGroups> column(groups, task);
    const Normal& normal = *task.normal;
    const bool exact = normal.exact;
    int channel = kAlternate ? 0 : task.channel;
    __m256 mean = _mm256_set1_ps(normal.mean[channel]);
    __m256 inverse_high = _mm256_set1_ps(normal.inverse_high[channel]);
    __m256 inverse_low = _mm256_set1_ps(normal.inverse_low[channel]);
    __m256i next = column.value(0);
    for (std::int64_t i = 0; i < count; i += 8) {
        // The sums of the next columns begin before these are normalised: the two long chains of
        // dependent instructions then overlap.
        __m256i value = _mm256_max_epi32(next, _mm256_setzero_si256());
        next = column.value(i + 8 < count ? i + 8 : 0);
        value = _mm256_min_epi32(value, _mm256_set1_epi32(255));
        if (kAlternate) {
            mean = _mm256_loadu_ps(normal.mean + channel);
            inverse_high = _mm256_loadu_ps(normal.inverse_high + channel);
            inverse_low = _mm256_loadu_ps(normal.inverse_low + channel);
        }
        const __m256 pixel = _mm256_cvtepi32_ps(value);
        __m256 x = _mm256_fmadd_ps(pixel, _mm256_set1_ps(kPixelHigh),
                                   _mm256_mul_ps(pixel, _mm256_set1_ps(kPixelLow)));
        x = _mm256_sub_ps(x, mean);
        x = _mm256_fmadd_ps(x, inverse_high, _mm256_mul_ps(x, inverse_low));
        if (exact && count - i >= 8) {
            _mm256_storeu_ps(out + i, x);
        } else {
            alignas(32) std::int32_t values[8];
            _mm256_store_si256(reinterpret_cast<__m256i*>(values), value);
            look_up(values, std::min<std::int64_t>(8, count - i), normal, channel, kAlternate,
                    out + i);
        }
        if (kAlternate) channel = channel == 0 ? 2 : channel - 1;  // 8 = -1 modulo 3
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
        case 4:
            return vertical_groups<4, kAlternate>(groups, task, count, out);
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
EDGETL_AVX2 void bytes_groups(const std::uint8_t* const* groups, const Vertical& task,
                              const std::int64_t count, std::uint8_t* const out) {
    const Column<kGroups> column(groups, task);
    for (std::int64_t i = 0; i < count; i += 16) {
        // Packing saturates, which is the clipping to bytes; its order by lanes is undone.
        const __m256i halves = _mm256_permute4x64_epi64(
            _mm256_packs_epi32(column.value(i), column.value(i + 8)), 0xd8);
        const __m128i bytes =
            _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
        if (count - i >= 16) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
        } else {
            alignas(16) std::uint8_t rest[16];
            _mm_store_si128(reinterpret_cast<__m128i*>(rest), bytes);
            std::copy(rest, rest + (count - i), out + i);
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
        case 4:
            return bytes_groups<4>(groups, task, count, out);
        default:
            return bytes_groups<0>(groups, task, count, out);
    }
}

// Two rows' 16-bit weights side by side; shift 0 gives the low digits, 8 the high ones.
EDGETL_AVX2 inline __m256i weight_pair(std::int32_t first, std::int32_t second, bool high) {
    const std::int32_t a = high ? first >> 8 : first & 0xff;
    const std::int32_t b = high ? second >> 8 : second & 0xff;
    return _mm256_set1_epi32((a & 0xffff) |
                             static_cast<std::int32_t>(static_cast<std::uint32_t>(b) << 16));
}

}  // namespace

EDGETL_AVX2 void reduce_avx2(const Window& window, std::int64_t count, std::uint8_t* out) {
    const __m256i zero = _mm256_setzero_si256(), half = _mm256_set1_epi32(kHalf);
    std::int64_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i low[4] = {half, half, half, half}, high[4] = {zero, zero, zero, zero};
        for (std::int64_t r = 0; r < window.rows; r += 2) {
            const bool pair = r + 1 < window.rows;
            const std::uint8_t* row = window.data + r * window.stride + i;
            const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
            const __m256i b =
                pair ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + window.stride))
                     : zero;
            const std::int32_t second = pair ? window.weights[r + 1] : 0;
            const __m256i weights_low = weight_pair(window.weights[r], second, false);
            const __m256i weights_high = weight_pair(window.weights[r], second, true);
            const __m256i left = _mm256_unpacklo_epi8(a, b), right = _mm256_unpackhi_epi8(a, b);
            const __m256i cells[4] = {
                _mm256_unpacklo_epi8(left, zero), _mm256_unpackhi_epi8(left, zero),
                _mm256_unpacklo_epi8(right, zero), _mm256_unpackhi_epi8(right, zero)};
            for (int k = 0; k < 4; ++k) {
                low[k] = multiply(low[k], cells[k], weights_low);
                high[k] = multiply(high[k], cells[k], weights_high);
            }
        }
        // Packing undoes the order that unpacking made, lane by lane.
        const __m256i left = _mm256_packs_epi32(join(low[0], high[0]), join(low[1], high[1]));
        const __m256i right = _mm256_packs_epi32(join(low[2], high[2]), join(low[3], high[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_packus_epi16(left, right));
    }
    reduce_portable({window.data + i, window.stride, window.weights, window.rows}, count - i,
                    out + i);
}

const Kernels kAvx2Kernels = {kRows, kBatch,     4,        kDigits,        16,
                              pack,  horizontal, vertical, vertical_bytes, reduce_avx2};

}  // namespace edgetl
#endif
