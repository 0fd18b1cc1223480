// Plans and launches the preprocessing of a batch; see edgetl/cuda_preprocess.h.
//
// Compiled by nvcc for the GPU, and as plain C++ for the host twin.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "edgetl/cuda_preprocess.h"
#include "preprocess_body.h"

namespace edgetl::gpu {
namespace {

constexpr std::int32_t kTileHeight = 32;
constexpr std::int32_t kWidestTile = TileBody::kThreads / 3;
constexpr std::int32_t kNarrowestTile = 8;
// Shared memory that still leaves room for several blocks on a multiprocessor.
constexpr std::size_t kComfortable = 36 * 1024;
// Most groups worth making at once: more only take memory.
constexpr std::int32_t kMostChunk = 12;

std::int32_t parts(std::int64_t whole, std::int64_t part) {
    return static_cast<std::int32_t>((whole + part - 1) / part);
}

// A plan for tiles of one width, with as many rows at once as fit comfortably; false if it needs
// more shared memory than there is.
bool try_width(Plan& plan, std::int32_t width, double scale, std::int64_t size,
               std::size_t shared_limit) {
    plan.tiles_x = parts(size, width);
    plan.tile_width = 4 * parts(parts(size, plan.tiles_x), 4);  // four numbers are written at once
    const std::int32_t sides = TileBody::kThreads / plan.tile_width;
    // From the first column's first input to the last column's last quad.
    const double across = std::ceil((plan.tile_width - 1) * scale) + 2.0 + 4.0 * plan.quads_x;
    if (across > 65536.0) return false;
    plan.pitch = 48 * parts(static_cast<std::int64_t>(across) + kSlack, 16);
    for (plan.chunk = kMostChunk; plan.chunk >= 1; --plan.chunk) {
        plan.ring = plan.chunk + plan.quads_y - 1;
        plan.shared = shared_bytes(plan);
        // Threads take groups side by side: an incomplete last turn is a waste.
        if (plan.chunk > sides && plan.chunk % sides != 0) continue;
        if (plan.shared <= std::min(kComfortable, shared_limit)) return true;
    }
    plan.chunk = 1;
    return plan.shared <= shared_limit;
}

Constants make_constants(const Definition& definition) {
    Constants constants{};
    constants.exact = true;
    for (int c = 0; c < 3; ++c) {
        const double inverse = 1.0 / static_cast<double>(definition.std[c]);
        constants.mean[c] = definition.mean[c];
        constants.std[c] = definition.std[c];
        constants.high[c] = static_cast<float>(inverse);
        constants.low[c] = static_cast<float>(inverse - static_cast<double>(constants.high[c]));
        for (int value = 0; value < 256; ++value) {
            const float fast =
                normalise_fast(value, constants.mean[c], constants.high[c], constants.low[c]);
            const float exact = normalise(value, constants.mean[c], constants.std[c]);
            constants.exact = constants.exact && bits_of(fast) == bits_of(exact);
        }
    }
    return constants;
}

std::size_t spans_bytes(std::int64_t n, std::int64_t size) {
    return (sizeof(Span) * 2 * static_cast<std::size_t>(n * size) + 15) / 16 * 16;
}

}  // namespace

void place(Photo& photo, const Definition& definition) {
    const Geometry found = geometry(photo.height, photo.width, definition);
    photo.rows = found.height;
    photo.columns = found.width;
    photo.top = found.top;
    photo.left = found.left;
    photo.rows_first = found.rows_first ? 1 : 0;
}

Plan plan_preprocess(const Photo* photos, std::int64_t n, const Definition& definition,
                     std::size_t shared_limit) {
    Plan plan{};
    const std::int64_t size = definition.size;
    plan.tiles_y = parts(size, kTileHeight);
    plan.tile_height = parts(size, plan.tiles_y);
    std::int64_t taps_x = 1, taps_y = 1;
    const Photo* worst = photos;
    double scale = 0.0;
    for (const Photo* photo = photos; photo != photos + n; ++photo) {
        const std::int64_t x = most_taps(photo->width, photo->columns, definition.filter);
        const std::int64_t y = most_taps(photo->height, photo->rows, definition.filter);
        if (std::max(x, y) > std::max(taps_x, taps_y)) worst = photo;
        taps_x = std::max(taps_x, x);
        taps_y = std::max(taps_y, y);
        scale = std::max(scale,
                         static_cast<double>(photo->width) / static_cast<double>(photo->columns));
    }
    plan.quads_x = static_cast<std::int32_t>(most_quads(taps_x, false));
    plan.quads_y = static_cast<std::int32_t>(most_quads(taps_y, true));
    std::int32_t width = kWidestTile;
    while (!try_width(plan, width, scale, size, shared_limit)) {
        if (width <= kNarrowestTile || plan.tile_width <= kNarrowestTile)
            throw std::invalid_argument("a photo of " + std::to_string(worst->height) + " x " +
                                        std::to_string(worst->width) + " pixels, resized to " +
                                        std::to_string(worst->rows) + " x " +
                                        std::to_string(worst->columns) + ", shrinks too much for " +
                                        std::to_string(shared_limit) +
                                        " bytes of shared memory; prepare it on the CPU");
        width /= 2;
    }
    plan.workspace =
        spans_bytes(n, size) +
        sizeof(Digits) * static_cast<std::size_t>(n * size * (plan.quads_x + plan.quads_y));
    return plan;
}

void preprocess(const Batch& batch, const Definition& definition, const Plan& plan, Number number,
                void* out, const Queue& queue) {
    PreprocessArgs args{};
    args.batch = batch;
    args.plan = plan;
    args.filter = definition.filter;
    args.number = number;
    args.size = static_cast<std::int32_t>(definition.size);
    args.nhwc = definition.layout == Layout::kNhwc;
    args.constants = make_constants(definition);
    args.out = out;
    args.aligned = reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
    auto* workspace = static_cast<unsigned char*>(batch.workspace);
    args.spans = reinterpret_cast<Span*>(workspace);
    args.words_x = reinterpret_cast<Digits*>(workspace + spans_bytes(batch.n, definition.size));
    args.words_y = args.words_x + batch.n * definition.size * plan.quads_x;
    const std::int64_t outputs = 2 * batch.n * definition.size;
    const Grid weights{(outputs + WeightsBody::kThreads - 1) / WeightsBody::kThreads, 0};
    launch<WeightsBody>(args, weights, queue, "the weights of a batch");
    const Grid tiles{batch.n * plan.tiles_x * plan.tiles_y, plan.shared};
    launch<TileBody>(args, tiles, queue, "the preprocessing of a batch");
}

}  // namespace edgetl::gpu
