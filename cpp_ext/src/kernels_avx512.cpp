// The inner loops for AVX-512 with VNNI: four rows per group, one byte per row in a cell.
//
// A cell's four bytes meet four weights in one vpdpbusd; weights are three signed 8-bit digits, the
// lowest first.
#include "kernels_avx512.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#define EDGETL_LOOP __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")))
#include "kernels_loops.h"

namespace edgetl {
namespace {

// Primitives of kernels_loops.h; a vector is one register.
struct Avx512 {
    static constexpr int kRows = 4;
    static constexpr int kBatch = 2;
    static constexpr int kCellBytes = 4;
    static constexpr int kDigits = 3;
    static constexpr int kWords = kDigits;        // words of a cell's weights
    static constexpr int kColumnWords = kDigits;  // the same where a cell is four taps of a row
    static constexpr int kBlock = 64;

    using Ints = __m512i;
    using Cells = __m512i;
    using Column = __m512i;  // lane = row, 32-bit element = red, green, blue, nothing
    struct Weights {
        __m512i digits[kDigits];
    };
    // One sum per digit: a single one, shifted on the way, would make too long a chain.
    struct Sum {
        __m512i digits[kDigits];
    };
    struct Scale {
        __m512 mean, inverse_high, inverse_low;
    };

    EDGETL_LOOP static Weights weights(const std::int32_t* words) {
        return {{_mm512_set1_epi32(words[0]), _mm512_set1_epi32(words[1]),
                 _mm512_set1_epi32(words[2])}};
    }

    // One half in units of the highest digit is where a sum of products starts.
    EDGETL_LOOP static Sum begin() {
        return {{_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_set1_epi32(kHalf >> 16)}};
    }

    EDGETL_LOOP static void add(Sum& sum, Cells cells, const Weights& weights) {
        for (int d = 0; d < kDigits; ++d)
            sum.digits[d] = _mm512_dpbusd_epi32(sum.digits[d], cells, weights.digits[d]);
    }

    // Joins the digits and drops the fractional bits.
    EDGETL_LOOP static Ints join(const Sum& sum) {
        const __m512i upper = _mm512_add_epi32(sum.digits[1], _mm512_slli_epi32(sum.digits[2], 8));
        return _mm512_srai_epi32(_mm512_add_epi32(sum.digits[0], _mm512_slli_epi32(upper, 8)),
                                 kPrecisionBits);
    }

    EDGETL_LOOP static Cells load(const std::uint8_t* cells) { return _mm512_loadu_si512(cells); }

    // Sixteen bytes of four consecutive rows, one row per 128-bit lane, taps sorted by channel.
    EDGETL_LOOP static __m512i load_taps(const std::uint8_t* rows, std::int64_t stride) {
        const __m512i by_channel = _mm512_broadcast_i32x4(
            _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
        const auto at = [](const std::uint8_t* p) { return reinterpret_cast<const __m128i*>(p); };
        const std::uint8_t* third = rows + 2 * stride;
        __m512i x = _mm512_castsi128_si512(_mm_loadu_si128(at(rows)));
        x = _mm512_inserti32x4(x, _mm_loadu_si128(at(rows + stride)), 1);
        x = _mm512_inserti32x4(x, _mm_loadu_si128(at(third)), 2);
        x = _mm512_inserti32x4(x, _mm_loadu_si128(at(third + stride)), 3);
        return _mm512_shuffle_epi8(x, by_channel);
    }

    template <int kCells>
    EDGETL_LOOP static void column(const Rows rows, const std::int32_t* words, std::int64_t cells,
                                   Column sums[kBatch]) {
        const std::int64_t n = kCells != 0 ? kCells : cells;
        const std::uint8_t* lower = rows.data + kRows * rows.stride;
        Sum a = begin(), b = begin();
        for (std::int64_t c = 0; c < n; ++c) {
            const Weights taps = weights(words + kDigits * c);
            add(a, load_taps(rows.data + 12 * c, rows.stride), taps);
            add(b, load_taps(lower + 12 * c, rows.stride), taps);
        }
        sums[0] = join(a);
        sums[1] = join(b);
    }

    // Four columns of one group, as bytes.
    EDGETL_LOOP static void store_columns(const Column sums[4], std::uint8_t* group, std::int64_t i,
                                          std::int64_t pitch) {
        const __m512i transpose =
            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const __m512i by_channel = _mm512_broadcast_i32x4(
            _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        const __m512i squeeze =
            _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0);
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

    // Cells of up to four rows, in an order that store_block undoes.
    EDGETL_LOOP static void interleave(const std::uint8_t* rows, std::int64_t stride,
                                       std::int64_t n, Cells cells[4]) {
        __m512i x[4];
        for (int r = 0; r < 4; ++r)
            x[r] = r < n ? _mm512_loadu_si512(rows + r * stride) : _mm512_setzero_si512();
        const __m512i low_ab = _mm512_unpacklo_epi8(x[0], x[1]);
        const __m512i high_ab = _mm512_unpackhi_epi8(x[0], x[1]);
        const __m512i low_cd = _mm512_unpacklo_epi8(x[2], x[3]);
        const __m512i high_cd = _mm512_unpackhi_epi8(x[2], x[3]);
        cells[0] = _mm512_unpacklo_epi16(low_ab, low_cd);
        cells[1] = _mm512_unpackhi_epi16(low_ab, low_cd);
        cells[2] = _mm512_unpacklo_epi16(high_ab, high_cd);
        cells[3] = _mm512_unpackhi_epi16(high_ab, high_cd);
    }

    // Packing undoes the order that unpacking made, lane by lane.
    EDGETL_LOOP static void store_block(std::uint8_t* out, const Ints sums[4]) {
        _mm512_storeu_si512(out, _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]),
                                                     _mm512_packs_epi32(sums[2], sums[3])));
    }

    // Of one channel, or of channels in turn from one on.
    EDGETL_LOOP static Scale scale(const Normal& normal, int channel, bool alternate) {
        if (alternate)
            return {_mm512_loadu_ps(normal.mean + channel),
                    _mm512_loadu_ps(normal.inverse_high + channel),
                    _mm512_loadu_ps(normal.inverse_low + channel)};
        return {_mm512_set1_ps(normal.mean[channel]), _mm512_set1_ps(normal.inverse_high[channel]),
                _mm512_set1_ps(normal.inverse_low[channel])};
    }

    EDGETL_LOOP static __m512 normalise(Ints sums, const Scale& scale) {
        const __m512i bytes = _mm512_min_epi32(_mm512_max_epi32(sums, _mm512_setzero_si512()),
                                               _mm512_set1_epi32(255));
        const __m512 pixel = _mm512_cvtepi32_ps(bytes);
        const __m512 unit = _mm512_fmadd_ps(pixel, _mm512_set1_ps(kPixelHigh),
                                            _mm512_mul_ps(pixel, _mm512_set1_ps(kPixelLow)));
        const __m512 x = _mm512_sub_ps(unit, scale.mean);
        return _mm512_fmadd_ps(x, scale.inverse_high, _mm512_mul_ps(x, scale.inverse_low));
    }

    EDGETL_LOOP static __m512 load_floats(const float* values) { return _mm512_loadu_ps(values); }

    EDGETL_LOOP static void store(float* out, __m512 values) { _mm512_storeu_ps(out, values); }

    EDGETL_LOOP static void store(Float16* out, __m512 values) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                            _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    }

    // As to_bfloat16; there is no NaN.
    EDGETL_LOOP static void store(Bfloat16* out, __m512 values) {
        const __m512i bits = _mm512_castps_si512(values);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded =
            _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
    }

    EDGETL_LOOP static void store(std::uint8_t* out, Ints sums) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                         _mm512_cvtusepi32_epi8(_mm512_max_epi32(sums, _mm512_setzero_si512())));
    }
};

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    auto* bytes = reinterpret_cast<std::int8_t*>(words);
    for (std::int64_t i = 0; i < n; ++i)
        put_digits(weights[i], bytes + (i + lead) / 4 * (4 * Avx512::kDigits) + (i + lead) % 4, 4);
}

Columns pack_columns(const Axis& axis) {
    Columns columns = pack_each_column(axis, kAvx512Kernels, 4, kColumnStep, 16);
    columns.run = run_columns<Avx512>;
    return columns;
}

Columns pack_columns_vbmi(const Axis& axis) {
    Columns columns = pack_flat_columns(axis);
    return columns.run != nullptr ? columns : pack_columns(axis);
}

}  // namespace

const Kernels kAvx512Kernels = {Avx512::kRows, Avx512::kBatch, Avx512::kCellBytes, Avx512::kWords,
                                pack,          pack_columns,   vertical<Avx512>,   reduce<Avx512>};
const Kernels kAvx512VbmiKernels = {Avx512::kRows,    Avx512::kBatch, Avx512::kCellBytes,
                                    Avx512::kWords,   pack,           pack_columns_vbmi,
                                    vertical<Avx512>, reduce<Avx512>};

}  // namespace edgetl
#endif
