// Fuzzes preprocessing: sizes, strides, parts, types, layouts, instruction sets, threads, constants
// that are no numbers. What the header allows must give the portable kernel's bits and fill the
// whole output; everything else must be refused before a byte is read.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <vector>

#include "edgetl/preprocess.h"
#include "input.h"

namespace {

using edgetl::Definition;

constexpr std::int64_t kMaxResize = 16384;
constexpr std::int64_t kMost = std::int64_t{1} << 21;  // bytes of a photo, counted row by row

Definition take_definition(fuzz::Input& input) {
    Definition definition{};
    const bool hostile = input.take<std::uint8_t>() % 4 == 0;
    definition.resize = hostile ? input.size(300, kMaxResize) : input.between(1, 64);
    definition.size = hostile ? input.size(300, kMaxResize)
                              : input.between(1, std::min<std::int64_t>(definition.resize, 64));
    definition.filter = input.coin() ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
    definition.layout = input.coin() ? edgetl::Layout::kNchw : edgetl::Layout::kNhwc;
    definition.fit = input.coin() ? edgetl::Fit::kShortest : edgetl::Fit::kSquash;
    definition.dtype = static_cast<edgetl::Dtype>(input.take<std::uint8_t>() % 4);
    for (int c = 0; c < 3; ++c) {
        definition.mean[c] = hostile ? input.number<float>(-2, 2) : 0.5f;
        definition.std[c] = hostile ? input.number<float>(0.001, 2) : 0.25f;
    }
    return definition;
}

bool allowed(const Definition& definition) {
    for (int c = 0; c < 3; ++c)
        if (!std::isfinite(definition.mean[c]) || !(definition.std[c] > 0)) return false;
    return definition.size >= 1 && definition.size <= definition.resize &&
           definition.resize <= kMaxResize;
}

bool allowed_side(std::int64_t side) {
    return side >= 1 && side <= edgetl::kMaxSide;
}

bool contains(const edgetl::Box& outer, const edgetl::Box& inner) {
    return outer.top <= inner.top && outer.left <= inner.left &&
           outer.top + outer.height >= inner.top + inner.height &&
           outer.left + outer.width >= inner.left + inner.width;
}

// Whether it was refused.
bool refused(const edgetl::Image& image, const Definition& definition, void* out, int threads,
             edgetl::Isa isa) {
    try {
        edgetl::preprocess(image, definition, out, threads, isa);
    } catch (const std::invalid_argument&) {
        return true;
    }
    return false;
}

// A part of the photo that is at hand: all of it, what is needed, a bit more, or nonsense.
edgetl::Box take_part(fuzz::Input& input, std::int64_t height, std::int64_t width,
                      const edgetl::Box& needed) {
    switch (input.take<std::uint8_t>() % 4) {
        case 0:
            return {0, 0, height, width};
        case 1:
            return needed;
        case 2: {
            edgetl::Box part = needed;
            part.top -= input.between(0, part.top);
            part.left -= input.between(0, part.left);
            part.height = input.between(needed.top + needed.height, height) - part.top;
            part.width = input.between(needed.left + needed.width, width) - part.left;
            return part;
        }
        default:
            return {input.size(height, height), input.size(width, width),
                    input.size(height, height), input.size(width, width)};
    }
}

void run(fuzz::Input& input) {
    const Definition definition = take_definition(input);
    const std::int64_t usual = input.take<std::uint8_t>() % 8 == 0 ? 3000 : 90;
    const std::int64_t height = input.size(usual, edgetl::kMaxSide);
    const std::int64_t width = input.size(usual, edgetl::kMaxSide);
    const int hostile_threads[] = {0, -1, std::numeric_limits<int>::min(), 40};
    const int threads = input.take<std::uint8_t>() % 8 == 0
                            ? hostile_threads[input.take<std::uint8_t>() % 4]
                            : static_cast<int>(input.between(1, 3));
    // Those that the machine lacks fall back.
    const edgetl::Isa isa = edgetl::kIsas[input.take<std::uint8_t>() % std::size(edgetl::kIsas)];

    const std::uint8_t byte = 0;
    std::uint8_t nothing[64];
    if (!allowed(definition) || !allowed_side(height) || !allowed_side(width) || threads < 1) {
        const auto image = edgetl::whole_image(&byte, height, width, input.take<std::int64_t>());
        fuzz::require(refused(image, definition, nothing, threads, isa), "bad sizes are refused");
        return;
    }
    if (definition.size > 300) return;  // allowed, and too much memory for this

    const edgetl::Box whole{0, 0, height, width};
    const edgetl::Box needed = edgetl::needed(height, width, definition);
    fuzz::require(needed.height >= 1 && needed.width >= 1 && needed.top >= 0 && needed.left >= 0 &&
                      contains(whole, needed),
                  "what is needed lies in the photo");
    edgetl::Image image{&byte, height, width, 0, take_part(input, height, width, needed)};
    const edgetl::Box& part = image.part;
    const auto within = [](std::int64_t at, std::int64_t length, std::int64_t limit) {
        return at >= 0 && length >= 1 && length <= limit && at <= limit - length;
    };
    if (!within(part.top, part.height, height) || !within(part.left, part.width, width) ||
        !contains(part, needed)) {
        fuzz::require(refused(image, definition, nothing, threads, isa), "bad parts are refused");
        return;
    }

    // Rows with gaps, overlapping ones, one row again and again, and all of it backwards.
    const std::int64_t row = 3 * part.width;
    const std::int64_t step =
        input.take<std::uint8_t>() % 4 == 0 ? input.between(0, row) : row + input.between(0, 40);
    const std::int64_t bytes = (part.height - 1) * step + row;
    if (std::max(bytes, part.height * row) > kMost) return;  // allowed, and too slow for this
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(bytes));
    std::uint32_t state = input.take<std::uint32_t>();
    for (std::uint8_t& pixel : pixels)
        pixel = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
    const bool backwards = input.coin();
    image.data = pixels.data() + (backwards ? (part.height - 1) * step : 0);
    image.stride = backwards ? -step : step;

    const auto count = static_cast<std::size_t>(edgetl::output_bytes(definition));
    std::vector<std::uint8_t> expected(count, 0), actual(count, 255);
    fuzz::require(!refused(image, definition, expected.data(), 1, edgetl::Isa::kPortable),
                  "what the header allows is taken");
    fuzz::require(!refused(image, definition, actual.data(), threads, isa),
                  "what the header allows is taken");
    // They were filled differently before: bytes that nobody wrote differ.
    fuzz::require(expected == actual, "all instruction sets and threads give the same bits");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    run(input);
    return 0;
}
