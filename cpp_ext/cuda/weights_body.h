// The first kernel of preprocessing: the weights of every photo of a batch, into the workspace.
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

}  // namespace edgetl::gpu
