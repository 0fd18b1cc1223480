// A tile of the output: where it lies, and how its block divides shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weights_body.h"

namespace edgetl::gpu {

// Where a tile lies, in its photo and in the output; the same for all threads of the block.
struct Tile {
    std::int64_t number;  // of the photo
    std::int32_t left, top, columns, rows;
    std::int32_t first_column;  // of the photo, from which on bytes are fetched
    std::int32_t planes;        // 1: packed RGB, 3
    std::int32_t span;          // bytes of a line: of one row, in one plane
    std::int32_t first_group;   // groups of input rows; of output rows where rows go first
    std::int32_t groups;        // 0: nothing to do
    std::int32_t last_row;      // of the photo
    bool rows_first;
    std::int64_t base;  // bytes from the buffer's begin to row 0, first_column
    std::int64_t stride;
    std::int64_t plane;

    // The offset of a line's first byte that the tile needs; rows beyond the last are like it.
    EDGETL_SHARED std::int64_t line_offset(std::int32_t row, std::int32_t plane_number) const {
        return base + at_most(row, last_row) * stride + plane_number * plane;
    }
};

// How shared memory is divided.
struct Sections {
    Digits* words_x;      // (quads_x, tile_width)
    Digits* words_y;      // (tile_height, quads_y)
    unsigned char* raw;   // (4 * chunk, pitch)
    std::uint32_t* ring;  // (ring, 3 * tile_width)
    Span* spans_x;        // (tile_width)
    Span* spans_y;        // (tile_height)
};

EDGETL_SHARED Sections divide(const Plan& plan, unsigned char* shared) {
    Sections sections;
    sections.words_x = reinterpret_cast<Digits*>(shared);
    sections.words_y = sections.words_x + plan.quads_x * plan.tile_width;
    sections.raw =
        reinterpret_cast<unsigned char*>(sections.words_y + plan.quads_y * plan.tile_height);
    sections.ring = reinterpret_cast<std::uint32_t*>(sections.raw + 4 * plan.chunk * plan.pitch);
    sections.spans_x = reinterpret_cast<Span*>(sections.ring + plan.ring * 3 * plan.tile_width);
    sections.spans_y = sections.spans_x + plan.tile_width;
    return sections;
}

inline std::size_t shared_bytes(const Plan& plan) {
    return sizeof(Digits) * (static_cast<std::size_t>(plan.quads_x) * plan.tile_width +
                             static_cast<std::size_t>(plan.quads_y) * plan.tile_height) +
           4 * static_cast<std::size_t>(plan.chunk) * plan.pitch +
           12 * static_cast<std::size_t>(plan.ring) * plan.tile_width +
           sizeof(Span) * static_cast<std::size_t>(plan.tile_width + plan.tile_height);
}

// Bytes that a line of a plane may take in shared memory beyond its own: it begins up to 15 after a
// multiple of 16, ends up to 15 before one, and four weights and a word are read beyond its end.
constexpr std::int32_t kSlack = 40;

constexpr int kTileThreads = 192;  // three channels of a row of the widest tile

// What a thread keeps from step to step.
struct TileState {
    Tile tile;
    std::int32_t row = -1;             // of the tile: the thread's next one
    std::int32_t group = 0, slot = 0;  // where the group lies in the ring
};

EDGETL_SHARED void add4(std::uint32_t pixels, const Digits& digits, std::int32_t (&sums)[3]) {
    sums[0] = dot4<false>(pixels, digits.words[0], sums[0]);
    sums[1] = dot4<false>(pixels, digits.words[1], sums[1]);
    sums[2] = dot4<true>(pixels, digits.words[2], sums[2]);
}

}  // namespace edgetl::gpu
