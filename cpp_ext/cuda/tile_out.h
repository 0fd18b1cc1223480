// From groups of four rows to the output.
#pragma once

#include <cstdint>

#include "tile.h"

namespace edgetl::gpu {

// Four numbers of the thread's row; false where groups are missing.
EDGETL_SHARED bool make_four(const PreprocessArgs& args, TileState& state, const Sections& sections,
                             const Vector16* cells, std::int32_t per_row, std::int32_t end,
                             std::int32_t (&values)[4]) {
    const std::int32_t ring = args.plan.ring, row = state.row;
    const bool rows_first = state.tile.rows_first;
    const Span span = rows_first ? Span{0, 1} : sections.spans_y[row];
    const std::int32_t first = rows_first ? row / 4 : span.start / 4 - state.tile.first_group;
    if (first + span.quads > end) return false;
    // Groups never go back, so no remainder has to be found.
    for (; state.group < first; ++state.group)
        state.slot = state.slot + 1 == ring ? 0 : state.slot + 1;
    std::int32_t slot = state.slot;
    if (rows_first) {
        const Vector16 cell = cells[slot * per_row];
#pragma unroll
        for (std::int32_t i = 0; i < 4; ++i)
            values[i] = static_cast<std::int32_t>((cell.words[i] >> (8 * (row % 4))) & 255u);
        return true;
    }
    const Digits* words = sections.words_y + row * args.plan.quads_y;
    std::int32_t sums[4][3] = {};

#pragma unroll 1
    for (std::int32_t quad = 0; quad < span.quads; ++quad) {
        const Vector16 cell = cells[slot * per_row];
        const Digits digits = words[quad];
#pragma unroll
        for (std::int32_t i = 0; i < 4; ++i) add4(cell.words[i], digits, sums[i]);
        slot = slot + 1 == ring ? 0 : slot + 1;
    }
#pragma unroll
    for (std::int32_t i = 0; i < 4; ++i)
        values[i] = to_byte(join_digits(sums[i][0], sums[i][1], sums[i][2]));
    return true;
}

// Writes `count` of four numbers from `place` on, the first of them of `channel`.
EDGETL_SHARED void write_four(const PreprocessArgs& args, std::int64_t place, std::int32_t channel,
                              std::int32_t count, const std::int32_t (&values)[4]) {
    const bool together = count == 4 && args.aligned && place % 4 == 0;
    if (args.number == Number::kUint8) {
        auto* out = static_cast<std::uint8_t*>(args.out) + place;
        std::uint32_t word = 0;
#pragma unroll
        for (std::int32_t i = 0; i < 4; ++i) {
            word |= static_cast<std::uint32_t>(values[i]) << (8 * i);
            if (!together && i < count) out[i] = static_cast<std::uint8_t>(values[i]);
        }
        if (together) *reinterpret_cast<std::uint32_t*>(out) = word;
        return;
    }
    float numbers[4];
#pragma unroll
    for (std::int32_t i = 0; i < 4; ++i) {
        const Constants& constants = args.constants;
        const std::int32_t c = !args.nhwc        ? channel
                               : channel + i < 3 ? channel + i
                                                 : channel + i - 3;
        numbers[i] = constants.exact ? normalise_fast(values[i], constants.mean[c],
                                                      constants.high[c], constants.low[c])
                                     : normalise(values[i], constants.mean[c], constants.std[c]);
    }
    if (!together) {
#pragma unroll
        for (std::int32_t i = 0; i < 4; ++i)
            if (i < count) write_number(args.out, place + i, args.number, numbers[i]);
    } else if (args.number == Number::kFloat32) {
        const Vector16 four = {
            {bits_of(numbers[0]), bits_of(numbers[1]), bits_of(numbers[2]), bits_of(numbers[3])}};
        *reinterpret_cast<Vector16*>(static_cast<float*>(args.out) + place) = four;
    } else {
        const Vector8 four = {{narrow_bits(numbers[0], numbers[1], args.number),
                               narrow_bits(numbers[2], numbers[3], args.number)}};
        *reinterpret_cast<Vector8*>(static_cast<std::uint16_t*>(args.out) + place) = four;
    }
}

// The output rows that the groups up to `end` complete. A thread makes four neighbouring
// numbers of every few rows: so weights are read once for four, and neighbours are written as
// one.
EDGETL_SHARED void write_rows(const PreprocessArgs& args, TileState& state,
                              const Sections& sections, int thread, std::int32_t end) {
    const Plan& plan = args.plan;
    const Tile& tile = state.tile;
    const std::int32_t per_row = 3 * plan.tile_width / 4, sides = kTileThreads / per_row;
    const std::int32_t side = thread / per_row, place = thread - side * per_row;
    const std::int32_t channel = args.nhwc ? place % 3 : 4 * place / plan.tile_width;
    // Of the tile's row in the output: numbers where pixels alternate, else columns.
    const std::int32_t first = args.nhwc ? 4 * place : 4 * place - channel * plan.tile_width;
    const std::int32_t left = (args.nhwc ? 3 : 1) * tile.columns - first;
    if (side >= sides || left <= 0) return;
    if (state.row < 0) state.row = side;
    const std::int64_t size = args.size, top = tile.top;
    const std::int64_t begin =
        args.nhwc ? ((tile.number * size + top) * size + tile.left) * 3 + first
                  : ((tile.number * 3 + channel) * size + top) * size + tile.left + first;
    const std::int64_t to_next = args.nhwc ? 3 * size : size;
    const auto* cells = reinterpret_cast<const Vector16*>(sections.ring) + place;
    for (; state.row < tile.rows; state.row += sides) {
        std::int32_t values[4];
        if (!make_four(args, state, sections, cells, per_row, end, values)) return;
        write_four(args, begin + state.row * to_next, channel, at_most(left, 4), values);
    }
}

}  // namespace edgetl::gpu
