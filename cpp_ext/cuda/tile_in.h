// From the photo to groups of four rows that are as wide as the tile.
#pragma once

#include <cstdint>

#include "tile.h"

namespace edgetl::gpu {

// 16 bytes at a multiple of 16; what lies beyond the buffer's end is zero.
EDGETL_SHARED Vector16 load_vector(const Batch& batch, std::int64_t offset) {
    if (offset + 16 <= batch.bytes)
        return *reinterpret_cast<const Vector16*>(batch.pixels + offset);
    Vector16 value{};
    for (std::int64_t i = 0; i < 16 && offset + i < batch.bytes; ++i)
        value.words[i / 4] |= static_cast<std::uint32_t>(batch.pixels[offset + i]) << (8 * (i % 4));
    return value;
}

// Lines of the groups [begin, end) into shared memory, each as far from a multiple of 16 bytes
// as in the buffer. A warp takes a line, and a few lines at a time: so more loads are under way
// before the first is waited for.
EDGETL_SHARED void fetch(const PreprocessArgs& args, const TileState& state,
                         const Sections& sections, int thread, std::int32_t begin,
                         std::int32_t end) {
    constexpr std::int32_t kWarps = kTileThreads / 32, kAtOnce = 4;
    const Tile& tile = state.tile;
    const std::int32_t warp = thread / 32, lane = thread % 32;
    const std::int32_t first = 4 * (tile.first_group + begin);
    const std::int32_t count = 4 * (end - begin) * tile.planes;
    const std::int32_t pitch = args.plan.pitch / tile.planes;
    for (std::int32_t base = warp; base < count; base += kAtOnce * kWarps) {
        std::int64_t from[kAtOnce];
        std::int32_t needed[kAtOnce];  // vectors; 0 beyond the last line
        std::int32_t vectors = 0;
#pragma unroll
        for (std::int32_t k = 0; k < kAtOnce; ++k) {
            const std::int32_t line = base + k * kWarps;
            const std::int32_t row = tile.planes == 3 ? line / 3 : line;
            const std::int64_t offset = tile.line_offset(first + row, line - row * tile.planes);
            const auto shift = static_cast<std::int32_t>(offset & 15);
            from[k] = offset - shift;
            needed[k] = line < count ? (shift + tile.span + 15) / 16 : 0;
            if (needed[k] > vectors) vectors = needed[k];
        }
        for (std::int32_t vector = lane; vector < vectors; vector += 32) {
            Vector16 values[kAtOnce];
#pragma unroll
            for (std::int32_t k = 0; k < kAtOnce; ++k)
                if (vector < needed[k]) values[k] = load_vector(args.batch, from[k] + 16 * vector);
#pragma unroll
            for (std::int32_t k = 0; k < kAtOnce; ++k) {
                const std::int32_t line = base + k * kWarps;
                if (vector < needed[k])
                    reinterpret_cast<Vector16*>(sections.raw + line * pitch)[vector] = values[k];
            }
        }
    }
}

// Where rows go first: output rows of the groups [begin, end), still as wide as the photo.
EDGETL_SHARED void sum_columns(const PreprocessArgs& args, const TileState& state,
                               const Sections& sections, int thread, std::int32_t begin,
                               std::int32_t end) {
    const Tile& tile = state.tile;
    for (std::int32_t row = 4 * begin; row < 4 * end && row < tile.rows; ++row) {
        const Span span = sections.spans_y[row];
        const Digits* words = sections.words_y + row * args.plan.quads_y;
        for (std::int32_t i = thread; i < tile.planes * tile.span; i += kTileThreads) {
            const std::int32_t plane = i / tile.span, byte = i - plane * tile.span;
            std::int32_t low = 0, middle = 0, high = 0;

#pragma unroll 1
            for (std::int32_t quad = 0; quad < span.quads; ++quad) {
                std::uint32_t pixels = 0;
                for (std::int32_t k = 0; k < 4; ++k) {
                    const std::int64_t at =
                        tile.line_offset(span.start + 4 * quad + k, plane) + byte;
                    pixels |= static_cast<std::uint32_t>(args.batch.pixels[at]) << (8 * k);
                }
                const Digits digits = words[quad];
                low = dot4<false>(pixels, digits.words[0], low);
                middle = dot4<false>(pixels, digits.words[1], middle);
                high = dot4<true>(pixels, digits.words[2], high);
            }
            const std::int32_t line = (row - 4 * begin) * tile.planes + plane;
            sections.raw[line * (args.plan.pitch / tile.planes) + byte] =
                to_byte(join_digits(low, middle, high));
        }
    }
}

// The byte of a line in shared memory that the first weight belongs to.
EDGETL_SHARED std::int32_t find_byte(const Tile& tile, const Plan& plan, std::int32_t local_row,
                                     std::int32_t row, std::int32_t plane, std::int32_t skip) {
    const std::int64_t offset = tile.rows_first ? 0 : tile.line_offset(row, plane);
    return (local_row * tile.planes + plane) * (plan.pitch / tile.planes) +
           static_cast<std::int32_t>(offset & 15) + skip;
}

// Four pixels are twelve bytes: three words, which are sorted by channel.
EDGETL_SHARED void add_packed(const Tile& tile, const Plan& plan, const std::uint32_t* raw,
                              const Digits* weights, std::int32_t quads, std::int32_t skip,
                              std::int32_t local, std::int32_t group,
                              std::int32_t (&sums)[4][3][3]) {
    std::int32_t words[4];  // indices in `raw`
    std::uint32_t shifts[4], carried[4];
#pragma unroll
    for (std::int32_t row = 0; row < 4; ++row) {
        const std::int32_t byte = find_byte(tile, plan, 4 * local + row, 4 * group + row, 0, skip);
        words[row] = byte / 4;
        shifts[row] = static_cast<std::uint32_t>(byte % 4) * 8;
        carried[row] = raw[words[row]];
    }

#pragma unroll 1
    for (std::int32_t quad = 0; quad < quads; ++quad) {
        const Digits digits = weights[quad * plan.tile_width];
#pragma unroll
        for (std::int32_t row = 0; row < 4; ++row) {
            const std::uint32_t* next = raw + words[row] + 3 * quad;
            const std::uint32_t a = next[1], b = next[2], c = next[3];
            const std::uint32_t first = shift_right(carried[row], a, shifts[row]);
            const std::uint32_t second = shift_right(a, b, shifts[row]);
            const std::uint32_t third = shift_right(b, c, shifts[row]);
            carried[row] = c;
            add4(pick_bytes<0x5210>(pick_bytes<0x0630>(first, second), third), digits,
                 sums[row][0]);
            add4(pick_bytes<0x6210>(pick_bytes<0x0741>(first, second), third), digits,
                 sums[row][1]);
            add4(pick_bytes<0x7410>(pick_bytes<0x0052>(first, second), third), digits,
                 sums[row][2]);
        }
    }
}

// Four pixels of a plane are one word.
EDGETL_SHARED void add_planes(const Tile& tile, const Plan& plan, const std::uint32_t* raw,
                              const Digits* weights, std::int32_t quads, std::int32_t skip,
                              std::int32_t local, std::int32_t group,
                              std::int32_t (&sums)[4][3][3]) {
#pragma unroll
    for (std::int32_t plane = 0; plane < 3; ++plane) {
        std::int32_t words[4];
        std::uint32_t shifts[4], carried[4];
#pragma unroll
        for (std::int32_t row = 0; row < 4; ++row) {
            const std::int32_t byte =
                find_byte(tile, plan, 4 * local + row, 4 * group + row, plane, skip);
            words[row] = byte / 4;
            shifts[row] = static_cast<std::uint32_t>(byte % 4) * 8;
            carried[row] = raw[words[row]];
        }

#pragma unroll 1
        for (std::int32_t quad = 0; quad < quads; ++quad) {
            const Digits digits = weights[quad * plan.tile_width];
#pragma unroll
            for (std::int32_t row = 0; row < 4; ++row) {
                const std::uint32_t next = raw[words[row] + quad + 1];
                add4(shift_right(carried[row], next, shifts[row]), digits, sums[row][plane]);
                carried[row] = next;
            }
        }
    }
}

// Along the rows: a thread makes one column of one group, three channels of four rows.
EDGETL_SHARED void resample_rows(const PreprocessArgs& args, const TileState& state,
                                 const Sections& sections, int thread, std::int32_t begin,
                                 std::int32_t end) {
    const Plan& plan = args.plan;
    const Tile& tile = state.tile;
    const std::int32_t side = thread / plan.tile_width;  // this many groups side by side
    const std::int32_t column = thread - side * plan.tile_width;
    const std::int32_t sides = kTileThreads / plan.tile_width;
    if (side >= sides || column >= tile.columns) return;
    const Span span = sections.spans_x[column];
    const std::int32_t skip = (tile.planes == 3 ? 1 : 3) * (span.start - tile.first_column);
    const Digits* weights = sections.words_x + column;
    const auto* raw = reinterpret_cast<const std::uint32_t*>(sections.raw);
    for (std::int32_t group = begin + side; group < end; group += sides) {
        std::int32_t sums[4][3][3] = {};  // row, channel, digit
        if (tile.planes == 3)
            add_planes(tile, plan, raw, weights, span.quads, skip, group - begin,
                       tile.first_group + group, sums);
        else
            add_packed(tile, plan, raw, weights, span.quads, skip, group - begin,
                       tile.first_group + group, sums);
        std::uint32_t* cells = sections.ring + (group % plan.ring) * 3 * plan.tile_width;
#pragma unroll
        for (std::int32_t channel = 0; channel < 3; ++channel) {
            std::uint32_t cell = 0;
#pragma unroll
            for (std::int32_t row = 0; row < 4; ++row) {
                const std::int32_t (&sum)[3] = sums[row][channel];
                cell |= static_cast<std::uint32_t>(to_byte(join_digits(sum[0], sum[1], sum[2])))
                        << (8 * row);
            }
            cells[args.nhwc ? 3 * column + channel : channel * plan.tile_width + column] = cell;
        }
    }
}

}  // namespace edgetl::gpu
