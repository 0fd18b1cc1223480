// The bodies of the preprocessing kernels; see launch.h for what a body is.
//
// Two launches make a batch. The first computes the weights of every photo into the workspace: all
// tiles of a photo share them, and double arithmetic is slow on many GPUs, so it is not repeated
// tile by tile. The second makes a tile of the output per block. A chunk of input rows is fetched
// into shared memory in vectors of 16 bytes, resampled along the row into groups of four rows (one
// word holds a column's value in each), and groups stay in a ring until the output rows whose
// windows they complete are made. Photos whose height is resized first are summed up column by
// column straight from memory instead, which is slower; they are rare (twice as tall as wide).
#pragma once

#include <cstdint>

#include "tile.h"
#include "tile_in.h"
#include "tile_out.h"
#include "weights_body.h"

namespace edgetl::gpu {

struct TileBody {
    using Args = PreprocessArgs;
    using State = TileState;
    static constexpr int kThreads = kTileThreads;
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
};

}  // namespace edgetl::gpu
