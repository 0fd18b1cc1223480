// The inner loops for AVX2: two rows per group, one 16-bit number per row in a cell.
//
// A cell's two numbers meet two weights in one vpmaddwd; weights are a signed 16-bit digit and an
// unsigned 8-bit one.
#include "kernels.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#define EDGETL_LOOP __attribute__((target("avx2,fma,f16c")))
#include "kernels_loops.h"

namespace edgetl {
namespace {

// Primitives of kernels_loops.h; a vector is two registers.
struct Avx2 {
    static constexpr int kRows = 2;
    static constexpr int kBatch = 2;
    static constexpr int kCellBytes = 4;
    static constexpr int kDigits = 2;
    static constexpr int kWords = kDigits;        // words of a cell's weights
    static constexpr int kColumnWords = kDigits;  // the same where a cell is two taps of a row
    static constexpr int kBlock = 32;

    struct Ints {
        __m256i a, b;
    };
    using Cells = Ints;
    using Column = __m256i;  // lane = row, 32-bit element = red, green, blue, nothing
    struct Weights {
        __m256i low, high;
    };
    struct Sum {
        Ints low, high;
    };
    struct Floats {
        __m256 a, b;
    };
    struct Scale {
        Floats mean, inverse_high, inverse_low;
    };

    EDGETL_LOOP static Weights weights(const std::int32_t* words) {
        return {_mm256_set1_epi32(words[0]), _mm256_set1_epi32(words[1])};
    }

    EDGETL_LOOP static Sum begin() {
        const __m256i half = _mm256_set1_epi32(kHalf), zero = _mm256_setzero_si256();
        return {{half, half}, {zero, zero}};
    }

    EDGETL_LOOP static __m256i multiply(__m256i sum, __m256i cells, __m256i weights) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(cells, weights));
    }

    EDGETL_LOOP static void add(Sum& sum, const Cells& cells, const Weights& weights) {
        sum.low.a = multiply(sum.low.a, cells.a, weights.low);
        sum.low.b = multiply(sum.low.b, cells.b, weights.low);
        sum.high.a = multiply(sum.high.a, cells.a, weights.high);
        sum.high.b = multiply(sum.high.b, cells.b, weights.high);
    }

    // Joins the digits and drops the fractional bits.
    EDGETL_LOOP static __m256i join(__m256i low, __m256i high) {
        return _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_slli_epi32(high, 8)), kPrecisionBits);
    }
    EDGETL_LOOP static Ints join(const Sum& sum) {
        return {join(sum.low.a, sum.high.a), join(sum.low.b, sum.high.b)};
    }

    EDGETL_LOOP static __m256i load_half(const std::uint8_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    EDGETL_LOOP static Cells load(const std::uint8_t* cells) {
        return {load_half(cells), load_half(cells + 32)};
    }

    // Sixteen bytes of two rows, one row per 128-bit lane.
    EDGETL_LOOP static __m256i load_pair(const std::uint8_t* row, std::int64_t stride) {
        const auto at = [](const std::uint8_t* p) { return reinterpret_cast<const __m128i*>(p); };
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at(row))),
                                       _mm_loadu_si128(at(row + stride)), 1);
    }

    template <int kCells>
    EDGETL_LOOP static void column(const Rows rows, const std::int32_t* words, std::int64_t cells,
                                   Column sums[kBatch]) {
        const __m256i even = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
        const __m256i odd = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
        const std::int64_t n = kCells != 0 ? kCells : cells;
        const std::uint8_t* data = rows.data;
        Sum sum = begin();  // a and b are the two groups
        for (std::int64_t c = 0; c < n; c += 2, data += 12, words += 2 * kDigits) {
            const __m256i a = load_pair(data, rows.stride);
            const __m256i b = load_pair(data + 2 * rows.stride, rows.stride);
            add(sum, {_mm256_shuffle_epi8(a, even), _mm256_shuffle_epi8(b, even)}, weights(words));
            if (c + 1 == n) break;
            add(sum, {_mm256_shuffle_epi8(a, odd), _mm256_shuffle_epi8(b, odd)},
                weights(words + kDigits));
        }
        const Ints joined = join(sum);
        sums[0] = joined.a;
        sums[1] = joined.b;
    }

    // Four columns of one group, as pairs of 16-bit numbers.
    EDGETL_LOOP static void store_columns(const Column sums[4], std::uint8_t* group, std::int64_t i,
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

    // Cells of up to two rows, in an order that store_block undoes.
    EDGETL_LOOP static void interleave(const std::uint8_t* rows, std::int64_t stride,
                                       std::int64_t n, Cells cells[2]) {
        const __m256i zero = _mm256_setzero_si256();
        const __m256i x = load_half(rows), y = n > 1 ? load_half(rows + stride) : zero;
        const __m256i left = _mm256_unpacklo_epi8(x, y), right = _mm256_unpackhi_epi8(x, y);
        cells[0] = {_mm256_unpacklo_epi8(left, zero), _mm256_unpackhi_epi8(left, zero)};
        cells[1] = {_mm256_unpacklo_epi8(right, zero), _mm256_unpackhi_epi8(right, zero)};
    }

    // Packing undoes the order that unpacking made, lane by lane.
    EDGETL_LOOP static void store_block(std::uint8_t* out, const Ints sums[2]) {
        const __m256i left = _mm256_packs_epi32(sums[0].a, sums[0].b);
        const __m256i right = _mm256_packs_epi32(sums[1].a, sums[1].b);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_packus_epi16(left, right));
    }

    EDGETL_LOOP static Floats load_floats(const float* values) {
        return {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
    }

    // Of one channel, or of channels in turn from one on.
    EDGETL_LOOP static Floats constants(const float* values, int channel, bool alternate) {
        if (alternate) return load_floats(values + channel);
        return {_mm256_set1_ps(values[channel]), _mm256_set1_ps(values[channel])};
    }
    EDGETL_LOOP static Scale scale(const Normal& normal, int channel, bool alternate) {
        return {constants(normal.mean, channel, alternate),
                constants(normal.inverse_high, channel, alternate),
                constants(normal.inverse_low, channel, alternate)};
    }

    EDGETL_LOOP static __m256 normalise(__m256i sums, __m256 mean, __m256 inverse_high,
                                        __m256 inverse_low) {
        const __m256i bytes = _mm256_min_epi32(_mm256_max_epi32(sums, _mm256_setzero_si256()),
                                               _mm256_set1_epi32(255));
        const __m256 pixel = _mm256_cvtepi32_ps(bytes);
        const __m256 unit = _mm256_fmadd_ps(pixel, _mm256_set1_ps(kPixelHigh),
                                            _mm256_mul_ps(pixel, _mm256_set1_ps(kPixelLow)));
        const __m256 x = _mm256_sub_ps(unit, mean);
        return _mm256_fmadd_ps(x, inverse_high, _mm256_mul_ps(x, inverse_low));
    }
    EDGETL_LOOP static Floats normalise(const Ints& sums, const Scale& scale) {
        return {normalise(sums.a, scale.mean.a, scale.inverse_high.a, scale.inverse_low.a),
                normalise(sums.b, scale.mean.b, scale.inverse_high.b, scale.inverse_low.b)};
    }

    EDGETL_LOOP static void store(float* out, const Floats& values) {
        _mm256_storeu_ps(out, values.a);
        _mm256_storeu_ps(out + 8, values.b);
    }

    EDGETL_LOOP static void store(Float16* out, const Floats& values) {
        auto* to = reinterpret_cast<__m128i*>(out);
        _mm_storeu_si128(to, _mm256_cvtps_ph(values.a, _MM_FROUND_TO_NEAREST_INT));
        _mm_storeu_si128(to + 1, _mm256_cvtps_ph(values.b, _MM_FROUND_TO_NEAREST_INT));
    }

    // As to_bfloat16; there is no NaN.
    EDGETL_LOOP static __m256i round_to_bfloat16(__m256 values) {
        const __m256i bits = _mm256_castps_si256(values);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i half = _mm256_set1_epi32(0x7fff);
        return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, half), odd), 16);
    }
    EDGETL_LOOP static void store(Bfloat16* out, const Floats& values) {
        // Packing works by lanes; that order is undone.
        const __m256i both =
            _mm256_packus_epi32(round_to_bfloat16(values.a), round_to_bfloat16(values.b));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(both, 0xd8));
    }

    EDGETL_LOOP static void store(std::uint8_t* out, const Ints& sums) {
        // Packing saturates, which is the clipping to bytes.
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(sums.a, sums.b), 0xd8);
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(out),
            _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
    }
};

void pack(const std::int32_t* weights, std::int64_t n, std::int64_t lead, std::int32_t* words) {
    auto* halves = reinterpret_cast<std::int16_t*>(words);
    for (std::int64_t i = 0; i < n; ++i) {
        std::int16_t* cell = halves + (i + lead) / 2 * (2 * Avx2::kDigits) + (i + lead) % 2;
        const auto low = static_cast<std::int16_t>(weights[i] & 0xff);
        cell[0] = low;
        cell[2] = static_cast<std::int16_t>((weights[i] - low) / 256);
    }
}

Columns pack_columns(const Axis& axis) {
    Columns columns = pack_each_column(axis, kAvx2Kernels, 2, kColumnStep, 16);
    columns.run = run_columns<Avx2>;
    return columns;
}

}  // namespace

const Kernels kAvx2Kernels = {Avx2::kRows, Avx2::kBatch, Avx2::kCellBytes, Avx2::kWords,
                              pack,        pack_columns, vertical<Avx2>,   reduce<Avx2>};

}  // namespace edgetl
#endif
