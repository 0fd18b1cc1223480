// The inner loops for AVX2: two rows per group, one 16-bit number per row in a cell.
//
// A cell's two numbers meet two weights in one vpmaddwd; weights are a signed 16-bit digit and an
// unsigned 8-bit one.
#include "kernels.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#include <algorithm>

#define EDGETL_AVX2 EDGETL_TARGET("avx2,fma")

namespace edgetl {
namespace {

constexpr int kDigits = 2;
constexpr int kRows = 2;

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    auto* halves = reinterpret_cast<std::int16_t*>(words);
    for (std::int64_t i = 0; i < n; ++i) {
        std::int16_t* cell = halves + (i + lead) / 2 * (2 * kDigits) + (i + lead) % 2;
        const auto low = static_cast<std::int16_t>(weights[i] & 0xff);
        cell[0] = low;
        cell[2] = static_cast<std::int16_t>((weights[i] - low) / 256);
    }
}

EDGETL_AVX2 inline __m256i multiply(__m256i sum, __m256i cells, std::int32_t word) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(cells, _mm256_set1_epi32(word)));
}

// Joins the digits, rounds, and drops the fractional bits.
EDGETL_AVX2 inline __m256i join(__m256i low, __m256i high) {
    low = _mm256_add_epi32(low, _mm256_set1_epi32(kHalf));
    return _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_slli_epi32(high, 8)), 22);
}

// One output column of two rows: lane = row, 32-bit element = red, green, blue, nothing.
// kCells is the number of cells where it is known at compile time, else 0.
template <int kCells>
EDGETL_AVX2 inline __m256i column(const std::uint8_t* const* rows, std::int64_t offset,
                                  const std::int32_t* words, std::int64_t cells) {
    const __m256i first = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i second = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const auto at = [](const std::uint8_t* p) { return reinterpret_cast<const __m128i*>(p); };
    const std::int64_t n = kCells != 0 ? kCells : cells;
    __m256i low = _mm256_setzero_si256(), high = low;
    for (std::int64_t c = 0; c < n; c += 2, offset += 12, words += 2 * kDigits) {
        const __m256i pixels =
            _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at(rows[0] + offset))),
                                    _mm_loadu_si128(at(rows[1] + offset)), 1);
        const __m256i a = _mm256_shuffle_epi8(pixels, first);
        low = multiply(low, a, words[0]);
        high = multiply(high, a, words[1]);
        if (c + 1 == n) break;
        const __m256i b = _mm256_shuffle_epi8(pixels, second);
        low = multiply(low, b, words[2]);
        high = multiply(high, b, words[3]);
    }
    return join(low, high);
}

template <int kCells>
EDGETL_AVX2 void horizontal_cells(const std::uint8_t* const* rows, const Horizontal& task,
                                  std::uint8_t* group) {
    const __m256i zero = _mm256_setzero_si256(), top = _mm256_set1_epi16(255);
    const std::int64_t step = kDigits * task.cells;
    for (std::int64_t i = 0; i < task.count; i += 4) {
        __m128i cells[4];  // one column each: red, green, blue, nothing
        for (int k = 0; k < 4; k += 2) {
            const std::int64_t a = std::min(i + k, task.count - 1);
            const std::int64_t b = std::min(i + k + 1, task.count - 1);
            const __m256i x =
                column<kCells>(rows, task.offsets[a], task.words + a * step, task.cells);
            const __m256i y =
                column<kCells>(rows, task.offsets[b], task.words + b * step, task.cells);
            const __m256i both =
                _mm256_min_epi16(_mm256_max_epi16(_mm256_packs_epi32(x, y), zero), top);
            const __m128i row0 = _mm256_castsi256_si128(both);
            const __m128i row1 = _mm256_extracti128_si256(both, 1);
            cells[k] = _mm_unpacklo_epi16(row0, row1);
            cells[k + 1] = _mm_unpackhi_epi16(row0, row1);
        }
        const auto at = [](std::uint8_t* p) { return reinterpret_cast<__m128i*>(p); };
        if (task.pitch != 0) {
            const __m128i ab_rg = _mm_unpacklo_epi32(cells[0], cells[1]);
            const __m128i cd_rg = _mm_unpacklo_epi32(cells[2], cells[3]);
            const __m128i ab_b = _mm_unpackhi_epi32(cells[0], cells[1]);
            const __m128i cd_b = _mm_unpackhi_epi32(cells[2], cells[3]);
            std::uint8_t* to = group + 4 * i;
            _mm_storeu_si128(at(to), _mm_unpacklo_epi64(ab_rg, cd_rg));
            _mm_storeu_si128(at(to + 4 * task.pitch), _mm_unpackhi_epi64(ab_rg, cd_rg));
            _mm_storeu_si128(at(to + 8 * task.pitch), _mm_unpacklo_epi64(ab_b, cd_b));
        } else {
            // Each store's last element is overwritten by the next store.
            for (int k = 0; k < 4; ++k) _mm_storeu_si128(at(group + 12 * (i + k)), cells[k]);
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
        case 4:
            return horizontal_cells<4>(rows, task, group);
        default:
            return horizontal_cells<0>(rows, task, group);
    }
}

template <int kGroups, bool kAlternate>
EDGETL_AVX2 void vertical_groups(const std::uint8_t* const* groups, const Vertical& task,
                                 std::int64_t count, float* out) {
    const Normal& normal = *task.normal;
    const __m256 pixel_high = _mm256_set1_ps(kPixelHigh), pixel_low = _mm256_set1_ps(kPixelLow);
    const int plane = kAlternate ? 0 : task.channel;
    __m256 mean = _mm256_set1_ps(normal.mean[plane]);
    __m256 inverse_high = _mm256_set1_ps(normal.inverse_high[plane]);
    __m256 inverse_low = _mm256_set1_ps(normal.inverse_low[plane]);
    int channel = 0;
    for (std::int64_t i = 0; i < count; i += 8) {
        __m256i low = _mm256_setzero_si256(), high = low;
        for (std::int64_t g = 0; g < (kGroups != 0 ? kGroups : task.groups); ++g) {
            const __m256i cells =
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(groups[g] + 4 * i));
            low = multiply(low, cells, task.words[kDigits * g]);
            high = multiply(high, cells, task.words[kDigits * g + 1]);
        }
        __m256i value = _mm256_max_epi32(join(low, high), _mm256_setzero_si256());
        value = _mm256_min_epi32(value, _mm256_set1_epi32(255));
        if (kAlternate) {
            mean = _mm256_loadu_ps(normal.mean + channel);
            inverse_high = _mm256_loadu_ps(normal.inverse_high + channel);
            inverse_low = _mm256_loadu_ps(normal.inverse_low + channel);
        }
        if (normal.exact && count - i >= 8) {
            const __m256 pixel = _mm256_cvtepi32_ps(value);
            __m256 x = _mm256_fmadd_ps(pixel, pixel_high, _mm256_mul_ps(pixel, pixel_low));
            x = _mm256_sub_ps(x, mean);
            x = _mm256_fmadd_ps(x, inverse_high, _mm256_mul_ps(x, inverse_low));
            _mm256_storeu_ps(out + i, x);
        } else {
            alignas(32) std::int32_t values[8];
            _mm256_store_si256(reinterpret_cast<__m256i*>(values), value);
            for (std::int64_t k = 0; k < std::min<std::int64_t>(8, count - i); ++k)
                out[i + k] = normal.table[kAlternate ? (channel + k) % 3 : plane][values[k]];
        }
        if (kAlternate) channel = (channel + 2) % 3;  // 8 = 2 modulo 3
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

// Two rows' 16-bit weights side by side; shift 0 gives the low digits, 8 the high ones.
EDGETL_AVX2 inline __m256i weight_pair(std::int32_t first, std::int32_t second, bool high) {
    const std::int32_t a = high ? first >> 8 : first & 0xff;
    const std::int32_t b = high ? second >> 8 : second & 0xff;
    return _mm256_set1_epi32((a & 0xffff) |
                             static_cast<std::int32_t>(static_cast<std::uint32_t>(b) << 16));
}

}  // namespace

EDGETL_AVX2 void reduce_avx2(const Window& window, std::int64_t count, std::uint8_t* out) {
    const __m256i zero = _mm256_setzero_si256();
    std::int64_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i low[4] = {zero, zero, zero, zero}, high[4] = {zero, zero, zero, zero};
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
                low[k] = _mm256_add_epi32(low[k], _mm256_madd_epi16(cells[k], weights_low));
                high[k] = _mm256_add_epi32(high[k], _mm256_madd_epi16(cells[k], weights_high));
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

const Kernels kAvx2Kernels = {kRows, 4, kDigits, 16, pack, horizontal, vertical, reduce_avx2};

}  // namespace edgetl
#endif
