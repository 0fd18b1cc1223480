// The horizontal loop for AVX-512 with VBMI: sixteen outputs of a row at once.
//
// The outputs of a row are counted channel by channel: red, green, blue of the first column, then
// of the second. Sixteen in a row come from at most six columns; where those read from one stretch
// of 64 bytes, one vpermb hands every output its four taps; where from two, one vpermi2b. A larger
// reduction spreads them too far and is left to the loop of kernels_avx512.cpp.
#include "kernels_avx512.h"

#ifdef EDGETL_X86
#include <immintrin.h>

#include <algorithm>

#define EDGETL_VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))

namespace edgetl {
namespace {

constexpr int kDigits = 3;
constexpr int kLanes = 16;     // outputs of a register
constexpr int kRegister = 16;  // words of a register

// Words of a register of outputs: the places of their taps, then per cell the digits of theirs.
constexpr std::int64_t words_of(std::int64_t cells) {
    return kRegister * (1 + kDigits * cells);
}

EDGETL_VBMI inline __m512i load(const void* p) {
    return _mm512_loadu_si512(p);
}

// Sixteen outputs of four rows, as cells. `offsets` says where their stretches begin.
template <int kStretches>
EDGETL_VBMI inline __m512i make_cells(const std::uint8_t* rows, const std::int64_t* offsets,
                                      const std::int64_t stride, const std::int32_t* words,
                                      const std::int64_t cells) {
    const std::uint8_t* row = rows + offsets[0];
    const std::int64_t apart = offsets[kStretches - 1] - offsets[0];
    const __m512i places = load(words);
    words += kRegister;
    __m512i low[4], middle[4], high[4];  // sums of the products with each digit
    for (int r = 0; r < 4; ++r) {
        low[r] = middle[r] = _mm512_setzero_si512();
        high[r] = _mm512_set1_epi32(kHalf >> 16);
    }
    for (std::int64_t c = 0; c < cells; ++c, row += 12, words += kRegister * kDigits) {
        const __m512i weights_low = load(words), weights_middle = load(words + kRegister);
        const __m512i weights_high = load(words + 2 * kRegister);
        for (int r = 0; r < 4; ++r) {
            const std::uint8_t* first = row + r * stride;
            const __m512i taps = kStretches == 1 ? _mm512_permutexvar_epi8(places, load(first))
                                                 : _mm512_permutex2var_epi8(load(first), places,
                                                                            load(first + apart));
            low[r] = _mm512_dpbusd_epi32(low[r], taps, weights_low);
            middle[r] = _mm512_dpbusd_epi32(middle[r], taps, weights_middle);
            high[r] = _mm512_dpbusd_epi32(high[r], taps, weights_high);
        }
    }
    __m512i sums[4];
    for (int r = 0; r < 4; ++r) {
        const __m512i upper = _mm512_add_epi32(middle[r], _mm512_slli_epi32(high[r], 8));
        const __m512i all = _mm512_add_epi32(low[r], _mm512_slli_epi32(upper, 8));
        sums[r] = _mm512_srai_epi32(all, kPrecisionBits);
    }
    const __m512i by_output =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_shuffle_epi8(_mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]),
                                                   _mm512_packs_epi32(sums[2], sums[3])),
                               by_output);
}

// Sixteen columns of one channel from the three registers that have them.
EDGETL_VBMI inline __m512i plane_of(const __m512i cells[3], int channel) {
    constexpr __mmask16 kThirds[3] = {0x9249, 0x2492, 0x4924};  // elements 0, 1, 2 modulo 3
    const __m512i order = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13);
    __m512i mixed = _mm512_mask_mov_epi32(cells[0], kThirds[(channel + 2) % 3], cells[1]);
    mixed = _mm512_mask_mov_epi32(mixed, kThirds[(channel + 1) % 3], cells[2]);
    return _mm512_permutexvar_epi32(_mm512_add_epi32(order, _mm512_set1_epi32(channel)), mixed);
}

template <int kStretches>
EDGETL_VBMI void run_flat(const Rows& rows, const Columns& columns, const std::int64_t pitch,
                          std::uint8_t* const* groups) {
    const std::int64_t count = columns.count, cells = columns.cells, stride = rows.stride;
    const std::int64_t step = words_of(cells);
    const std::int64_t* offsets = columns.offsets.data();
    const std::int32_t* words = columns.words.data();
    for (std::int64_t i = 0; i < count; i += kLanes, words += 3 * step) {
        for (int b = 0; b < 2; ++b) {
            const std::uint8_t* row = rows.data + b * 4 * stride;
            __m512i made[3];
            for (int v = 0; v < 3; ++v) {
                const std::int64_t* at = offsets + v * kStretches;
                for (int s = 0; s < kStretches; ++s)
                    for (int r = 0; r < 4; ++r) prefetch(row + at[s], (8 + r) * stride);
                made[v] = make_cells<kStretches>(row, at, stride, words + v * step, cells);
            }
            for (int v = 0; v < 3; ++v) {
                if (pitch == 0)
                    _mm512_storeu_si512(groups[b] + 4 * (3 * i + kLanes * v), made[v]);
                else
                    _mm512_storeu_si512(groups[b] + 4 * (i + v * pitch), plane_of(made, v));
            }
        }
        offsets += 3 * kStretches;
    }
}

// Packs for loops over one or two stretches; `run` is null where the columns lie too far apart.
Columns pack_stretches(const Axis& axis, std::int64_t stretches) {
    constexpr std::int64_t kFarthest = (64 - 12) / 3;  // samples to the last cell of a stretch
    Columns columns{};
    columns.count = round_up(axis.count, kLanes);
    columns.cells = (axis.taps + 3) / 4;
    const std::int64_t registers = 3 * columns.count / kLanes, step = words_of(columns.cells);
    columns.words.assign(registers * step, 0);
    for (std::int64_t v = 0; v < registers; ++v) {
        // Where the stretch begins that columns are in, and which one it is.
        std::int64_t start = axis.start[std::min(kLanes * v / 3, axis.count - 1)], stretch = 0;
        columns.offsets.push_back(3 * (start - axis.start[0]));
        auto* places = reinterpret_cast<std::uint8_t*>(columns.words.data() + v * step);
        auto* digits = reinterpret_cast<std::int8_t*>(places + 4 * kRegister);
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const std::int64_t column = (kLanes * v + lane) / 3, channel = (kLanes * v + lane) % 3;
            if (column >= axis.count) break;
            if (axis.start[column] - start > kFarthest) {
                if (++stretch == stretches) return {};
                start = axis.start[column];
                columns.offsets.push_back(3 * (start - axis.start[0]));
            }
            const std::int64_t place = 64 * stretch + 3 * (axis.start[column] - start) + channel;
            for (std::int64_t t = 0; t < 4; ++t)
                places[4 * lane + t] = static_cast<std::uint8_t>(place + 3 * t);
            for (std::int64_t t = 0; t < axis.length[column]; ++t)
                put_digits(axis.weights[column * axis.taps + t],
                           digits + t / 4 * (4 * kRegister * kDigits) + 4 * lane + t % 4,
                           4 * kRegister);
        }
        columns.offsets.resize((v + 1) * stretches, columns.offsets.back());
    }
    columns.reach = columns.offsets.back() + 12 * (columns.cells - 1) + 64;
    columns.run = stretches == 1 ? run_flat<1> : run_flat<2>;
    return columns;
}

}  // namespace

Columns pack_flat_columns(const Axis& axis) {
    Columns columns = pack_stretches(axis, 1);
    return columns.run != nullptr ? columns : pack_stretches(axis, 2);
}

}  // namespace edgetl
#endif
