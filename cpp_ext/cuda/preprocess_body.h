// The bodies of the preprocessing kernels; see launch.h for what a body is.
//
// Two launches make a batch. The first computes the weights of every photo into the workspace: all
// tiles of a photo share them, and double arithmetic is slow on many GPUs, so it is not repeated
// tile by tile. The second makes a tile of the output per block. A chunk of input rows is fetched
// into shared memory in vectors of 16 bytes, resampled along the row into groups of four rows (one
// word holds a column's value in each), and groups stay in a ring until the output rows whose
// windows they complete are made. Photos whose height is resized first are summed up column by
// column straight from memory instead, which is slower; they are rare (twice as tall as wide).
//
// A weight of 24 bits is three bytes ("digits"), of which the highest has a sign, so that one
// instruction multiplies four of them with four pixels. Sums may wrap: the joined one fits.
#pragma once

#include <cstdint>

#include "edgetl/cuda_preprocess.h"
#include "launch.h"
#include "numbers.h"

namespace edgetl::gpu {

// Weights of four inputs: bytes 0 to 3 of words 0, 1, 2 are the low, middle and high digits.
using Digits = Vector16;

// Where an output looks. In y, `start` is a multiple of four: weights before the first are zero.
struct Span {
    std::int32_t start;
    std::int32_t quads;  // 0: more than the plan allows for
};

struct PreprocessArgs {
    Batch batch;
    Plan plan;
    Filter filter;
    Number number;
    std::int32_t size;
    bool nhwc;
    bool aligned;  // `out` is at a multiple of 16 bytes
    Constants constants;
    void* out;
    Span* spans;      // (n, 2, size): x, y
    Digits* words_x;  // (n, size, quads_x)
    Digits* words_y;  // (n, size, quads_y)
};

EDGETL_SHARED std::int32_t at_most(std::int32_t a, std::int32_t b) {
    return a < b ? a : b;
}

// Most inputs any output of an axis looks at; see find_tap.
EDGETL_SHARED std::int64_t most_taps(std::int64_t in, std::int64_t out, Filter filter) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double support = (filter == Filter::kBicubic ? 2.0 : 1.0) * (scale < 1.0 ? 1.0 : scale);
    const auto taps = static_cast<std::int64_t>(2.0 * support) + 2;
    return taps < in ? taps : in;
}

// In y, up to three zeros come first.
EDGETL_SHARED std::int64_t most_quads(std::int64_t taps, bool vertical) {
    return (taps + (vertical ? 3 : 0) + 3) / 4;
}

EDGETL_SHARED std::int32_t join_digits(std::int32_t low, std::int32_t middle, std::int32_t high) {
    return static_cast<std::int32_t>(
        static_cast<std::uint32_t>(kHalf) + static_cast<std::uint32_t>(low) +
        (static_cast<std::uint32_t>(middle) << 8) + (static_cast<std::uint32_t>(high) << 16));
}

// One thread makes the weights of one output of one axis of one photo.
struct WeightsBody {
    using Args = PreprocessArgs;
    struct State {};
    static constexpr int kThreads = 128;
    static constexpr int kBlocks = 8;

    EDGETL_SHARED static int begin(const Args&, int, State&) { return 1; }

    EDGETL_SHARED static void step(const Args& args, int block, int thread, int, State&,
                                   unsigned char*) {
        const std::int64_t index = static_cast<std::int64_t>(block) * kThreads + thread;
        if (index >= 2 * args.batch.n * args.size) return;
        const std::int64_t number = index / (2 * args.size);
        const auto rest = static_cast<std::int32_t>(index - number * 2 * args.size);
        const bool vertical = rest >= args.size;
        const std::int32_t output = vertical ? rest - args.size : rest;
        const Photo photo = args.batch.table[number];
        const std::int64_t in = vertical ? photo.height : photo.width;
        const std::int64_t out = vertical ? photo.rows : photo.columns;
        const Tap tap =
            find_tap(in, out, (vertical ? photo.top : photo.left) + output, args.filter);
        const std::int64_t start = vertical ? tap.low & ~std::int64_t{3} : tap.low;
        const std::int64_t quads = (tap.high - start + 3) / 4;
        const std::int64_t most = vertical ? args.plan.quads_y : args.plan.quads_x;
        Span& span = args.spans[index];
        span.start = static_cast<std::int32_t>(start);
        // All outputs of a photo or none, though windows are cut off at its borders.
        const bool fits =
            quads <= most && most_quads(most_taps(in, out, args.filter), vertical) <= most;
        span.quads = fits ? static_cast<std::int32_t>(quads) : 0;
        if (!fits) return;
        double sum = 0.0;
        for (std::int64_t x = tap.low; x < tap.high; ++x) sum += raw_weight(tap, args.filter, x);
        Digits* words =
            (vertical ? args.words_y : args.words_x) + (number * args.size + output) * most;
        for (std::int64_t quad = 0; quad < quads; ++quad) {
            Digits digits{};
            for (std::int32_t i = 0; i < 4; ++i) {
                const std::int64_t x = start + 4 * quad + i;
                if (x < tap.low || x >= tap.high) continue;
                const double exact = raw_weight(tap, args.filter, x);
                const auto weight =
                    static_cast<std::uint32_t>(to_fixed(sum != 0.0 ? exact / sum : exact));
                for (std::int32_t digit = 0; digit < 3; ++digit)
                    digits.words[digit] |= ((weight >> (8 * digit)) & 255u) << (8 * i);
            }
            words[quad] = digits;
        }
    }
};

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

struct TileBody {
    using Args = PreprocessArgs;
    struct State {
        Tile tile;
        std::int32_t row = -1;             // of the tile: the thread's next one
        std::int32_t group = 0, slot = 0;  // where the group lies in the ring
    };
    static constexpr int kThreads = 192;  // three channels of a row of the widest tile
    static constexpr int kBlocks = 4;

    EDGETL_SHARED static Tile find_tile(const Args& args, int block) {
        const Plan& plan = args.plan;
        const std::int32_t per_photo = plan.tiles_x * plan.tiles_y;
        Tile tile{};
        tile.number = block / per_photo;
        const std::int32_t place = block - static_cast<std::int32_t>(tile.number) * per_photo;
        const std::int32_t down = place / plan.tiles_x;
        tile.left = (place - down * plan.tiles_x) * plan.tile_width;
        tile.top = down * plan.tile_height;
        tile.columns = at_most(plan.tile_width, args.size - tile.left);
        tile.rows = at_most(plan.tile_height, args.size - tile.top);
        const Span* x = args.spans + tile.number * 2 * args.size + tile.left;
        const Span* y = args.spans + (tile.number * 2 + 1) * args.size + tile.top;
        const Span last_x = x[tile.columns - 1], last_y = y[tile.rows - 1];
        const Photo& photo = args.batch.table[tile.number];
        tile.first_column = x[0].start;
        tile.last_row = static_cast<std::int32_t>(photo.height) - 1;
        tile.rows_first = photo.rows_first != 0;
        tile.planes = photo.plane != 0 ? 3 : 1;
        tile.base = photo.offset + (tile.planes == 3 ? 1 : 3) * x[0].start;
        tile.stride = photo.stride;
        tile.plane = photo.plane;
        const auto width = static_cast<std::int32_t>(photo.width);
        const std::int32_t across =
            at_most(last_x.start + 4 * last_x.quads, width) - tile.first_column;
        tile.span = tile.planes == 3 ? across : 3 * across;
        if (tile.rows_first) {
            tile.groups = (tile.rows + 3) / 4;
        } else {
            tile.first_group = y[0].start / 4;
            tile.groups = last_y.start / 4 + last_y.quads - tile.first_group;
        }
        // Within the plan, or not at all.
        if (last_x.quads == 0 || last_y.quads == 0 || 3 * (across + kSlack) > plan.pitch)
            tile.groups = 0;
        return tile;
    }

    EDGETL_SHARED static int begin(const Args& args, int block, State& state) {
        state.tile = find_tile(args, block);
        const std::int32_t chunk = args.plan.chunk, groups = state.tile.groups;
        return groups == 0 ? 0 : 1 + 3 * ((groups + chunk - 1) / chunk);
    }

    EDGETL_SHARED static void step(const Args& args, int, int thread, int step, State& state,
                                   unsigned char* shared) {
        const Tile& tile = state.tile;
        const Sections sections = divide(args.plan, shared);
        if (step == 0) {
            copy_weights(args, tile, sections, thread);
            return;
        }
        const std::int32_t chunk = (step - 1) / 3, what = (step - 1) - 3 * chunk;
        const std::int32_t begin = chunk * args.plan.chunk;
        const std::int32_t end = at_most(begin + args.plan.chunk, tile.groups);
        if (what == 0) {
            if (tile.rows_first)
                sum_columns(args, state, sections, thread, begin, end);
            else
                fetch(args, state, sections, thread, begin, end);
        } else if (what == 1) {
            resample_rows(args, state, sections, thread, begin, end);
        } else {
            write_rows(args, state, sections, thread, end);
        }
    }

    EDGETL_SHARED static void copy_weights(const Args& args, const Tile& tile,
                                           const Sections& sections, int thread) {
        const Plan& plan = args.plan;
        const std::int64_t first_x = tile.number * args.size + tile.left;
        const std::int64_t first_y = tile.number * args.size + tile.top;
        const Span* spans_x = args.spans + tile.number * 2 * args.size + tile.left;
        const Span* spans_y = args.spans + (tile.number * 2 + 1) * args.size + tile.top;
        for (std::int32_t i = thread; i < tile.columns; i += kThreads)
            sections.spans_x[i] = spans_x[i];
        for (std::int32_t i = thread; i < tile.rows; i += kThreads)
            sections.spans_y[i] = spans_y[i];
        const Digits* x = args.words_x + first_x * plan.quads_x;
        for (std::int32_t i = thread; i < tile.columns * plan.quads_x; i += kThreads) {
            const std::int32_t column = i / plan.quads_x, quad = i - column * plan.quads_x;
            sections.words_x[quad * plan.tile_width + column] = x[i];
        }
        const Digits* y = args.words_y + first_y * plan.quads_y;
        for (std::int32_t i = thread; i < tile.rows * plan.quads_y; i += kThreads)
            sections.words_y[i] = y[i];
    }

    // Lines of the groups [begin, end) into shared memory, each as far from a multiple of 16 bytes
    // as in the buffer. A warp takes a line, and a few lines at a time: so more loads are under way
    // before the first is waited for.
    EDGETL_SHARED static void fetch(const Args& args, const State& state, const Sections& sections,
                                    int thread, std::int32_t begin, std::int32_t end) {
        constexpr std::int32_t kWarps = kThreads / 32, kAtOnce = 4;
        const Tile& tile = state.tile;
        const std::int32_t warp = thread / 32, lane = thread % 32;
        const std::int32_t first = 4 * (tile.first_group + begin);
        const std::int32_t count = 4 * (end - begin) * tile.planes;
        const std::int32_t pitch = args.plan.pitch / tile.planes;
        for (std::int32_t base = warp; base < count; base += kAtOnce * kWarps) {
            std::int64_t from[kAtOnce];
            std::int32_t vectors = 0;
#pragma unroll
            for (std::int32_t k = 0; k < kAtOnce; ++k) {
                const std::int32_t line = base + k * kWarps;
                const std::int32_t row = tile.planes == 3 ? line / 3 : line;
                const std::int64_t offset = tile.line_offset(first + row, line - row * tile.planes);
                const auto shift = static_cast<std::int32_t>(offset & 15);
                from[k] = offset - shift;
                const std::int32_t needed = (shift + tile.span + 15) / 16;
                if (line < count && needed > vectors) vectors = needed;
            }
            for (std::int32_t vector = lane; vector < vectors; vector += 32) {
                Vector16 values[kAtOnce];
#pragma unroll
                for (std::int32_t k = 0; k < kAtOnce; ++k)
                    if (base + k * kWarps < count)
                        values[k] = load_vector(args.batch, from[k] + 16 * vector);
#pragma unroll
                for (std::int32_t k = 0; k < kAtOnce; ++k) {
                    const std::int32_t line = base + k * kWarps;
                    if (line < count)
                        reinterpret_cast<Vector16*>(sections.raw + line * pitch)[vector] =
                            values[k];
                }
            }
        }
    }

    // 16 bytes at a multiple of 16; what lies beyond the buffer's end is zero.
    EDGETL_SHARED static Vector16 load_vector(const Batch& batch, std::int64_t offset) {
        if (offset + 16 <= batch.bytes)
            return *reinterpret_cast<const Vector16*>(batch.pixels + offset);
        Vector16 value{};
        for (std::int64_t i = 0; i < 16 && offset + i < batch.bytes; ++i)
            value.words[i / 4] |= static_cast<std::uint32_t>(batch.pixels[offset + i])
                                  << (8 * (i % 4));
        return value;
    }

    // Where rows go first: output rows of the groups [begin, end), still as wide as the photo.
    EDGETL_SHARED static void sum_columns(const Args& args, const State& state,
                                          const Sections& sections, int thread, std::int32_t begin,
                                          std::int32_t end) {
        const Tile& tile = state.tile;
        for (std::int32_t row = 4 * begin; row < 4 * end && row < tile.rows; ++row) {
            const Span span = sections.spans_y[row];
            const Digits* words = sections.words_y + row * args.plan.quads_y;
            for (std::int32_t i = thread; i < tile.planes * tile.span; i += kThreads) {
                const std::int32_t plane = i / tile.span, byte = i - plane * tile.span;
                std::int32_t low = 0, middle = 0, high = 0;
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

    // Along the rows: a thread makes one column of one group, three channels of four rows.
    EDGETL_SHARED static void resample_rows(const Args& args, const State& state,
                                            const Sections& sections, int thread,
                                            std::int32_t begin, std::int32_t end) {
        const Plan& plan = args.plan;
        const Tile& tile = state.tile;
        const std::int32_t side = thread / plan.tile_width;  // this many groups side by side
        const std::int32_t column = thread - side * plan.tile_width;
        const std::int32_t sides = kThreads / plan.tile_width;
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

    // The byte of a line in shared memory that the first weight belongs to.
    EDGETL_SHARED static std::int32_t find_byte(const Tile& tile, const Plan& plan,
                                                std::int32_t local_row, std::int32_t row,
                                                std::int32_t plane, std::int32_t skip) {
        const std::int64_t offset = tile.rows_first ? 0 : tile.line_offset(row, plane);
        return (local_row * tile.planes + plane) * (plan.pitch / tile.planes) +
               static_cast<std::int32_t>(offset & 15) + skip;
    }

    // Four pixels are twelve bytes: three words, which are sorted by channel.
    EDGETL_SHARED static void add_packed(const Tile& tile, const Plan& plan,
                                         const std::uint32_t* raw, const Digits* weights,
                                         std::int32_t quads, std::int32_t skip, std::int32_t local,
                                         std::int32_t group, std::int32_t (&sums)[4][3][3]) {
        std::int32_t words[4];  // indices in `raw`
        std::uint32_t shifts[4], carried[4];
#pragma unroll
        for (std::int32_t row = 0; row < 4; ++row) {
            const std::int32_t byte =
                find_byte(tile, plan, 4 * local + row, 4 * group + row, 0, skip);
            words[row] = byte / 4;
            shifts[row] = static_cast<std::uint32_t>(byte % 4) * 8;
            carried[row] = raw[words[row]];
        }
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
    EDGETL_SHARED static void add_planes(const Tile& tile, const Plan& plan,
                                         const std::uint32_t* raw, const Digits* weights,
                                         std::int32_t quads, std::int32_t skip, std::int32_t local,
                                         std::int32_t group, std::int32_t (&sums)[4][3][3]) {
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

    EDGETL_SHARED static void add4(std::uint32_t pixels, const Digits& digits,
                                   std::int32_t (&sums)[3]) {
        sums[0] = dot4<false>(pixels, digits.words[0], sums[0]);
        sums[1] = dot4<false>(pixels, digits.words[1], sums[1]);
        sums[2] = dot4<true>(pixels, digits.words[2], sums[2]);
    }

    // The output rows that the groups up to `end` complete. A thread makes four neighbouring
    // numbers of every few rows: so weights are read once for four, and neighbours are written as
    // one.
    EDGETL_SHARED static void write_rows(const Args& args, State& state, const Sections& sections,
                                         int thread, std::int32_t end) {
        const Plan& plan = args.plan;
        const Tile& tile = state.tile;
        const std::int32_t per_row = 3 * plan.tile_width / 4, sides = kThreads / per_row;
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

    // Four numbers of the thread's row; false where groups are missing.
    EDGETL_SHARED static bool make_four(const Args& args, State& state, const Sections& sections,
                                        const Vector16* cells, std::int32_t per_row,
                                        std::int32_t end, std::int32_t (&values)[4]) {
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
    EDGETL_SHARED static void write_four(const Args& args, std::int64_t place, std::int32_t channel,
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
            numbers[i] = constants.exact
                             ? normalise_fast(values[i], constants.mean[c], constants.high[c],
                                              constants.low[c])
                             : normalise(values[i], constants.mean[c], constants.std[c]);
        }
        if (!together) {
#pragma unroll
            for (std::int32_t i = 0; i < 4; ++i)
                if (i < count) write_number(args.out, place + i, args.number, numbers[i]);
        } else if (args.number == Number::kFloat32) {
            const Vector16 four = {{bits_of(numbers[0]), bits_of(numbers[1]), bits_of(numbers[2]),
                                    bits_of(numbers[3])}};
            *reinterpret_cast<Vector16*>(static_cast<float*>(args.out) + place) = four;
        } else {
            const Vector8 four = {{narrow_bits(numbers[0], numbers[1], args.number),
                                   narrow_bits(numbers[2], numbers[3], args.number)}};
            *reinterpret_cast<Vector8*>(static_cast<std::uint16_t*>(args.out) + place) = four;
        }
    }
};

}  // namespace edgetl::gpu
