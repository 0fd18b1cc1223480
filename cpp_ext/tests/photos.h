// Photos and definitions for the tests and fuzzers of preprocessing, and one way to run them:
// the output lies between guard bytes, so that a write beyond it is noticed without a sanitizer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgetl/preprocess.h"
#include "random.h"

namespace check {

struct Photo {
    std::int64_t height;
    std::int64_t width;
    std::vector<std::uint8_t> bytes;  // packed

    edgetl::Image view() const {
        return edgetl::whole_image(bytes.data(), height, width, 3 * width);
    }
};

inline Photo random_photo(Random& random, std::int64_t height, std::int64_t width, bool extreme) {
    return {height, width,
            random_bytes(random, static_cast<std::size_t>(3 * height * width), extreme)};
}

inline edgetl::Definition random_definition(Random& random, std::int64_t longest) {
    edgetl::Definition definition{};
    definition.resize = random.between(1, longest);
    definition.size = random.between(1, definition.resize);
    definition.filter = random.coin() ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
    definition.layout = random.coin() ? edgetl::Layout::kNchw : edgetl::Layout::kNhwc;
    definition.fit = random.coin() ? edgetl::Fit::kShortest : edgetl::Fit::kSquash;
    definition.dtype = static_cast<edgetl::Dtype>(random.between(0, 3));
    for (int c = 0; c < 3; ++c) {
        definition.mean[c] = static_cast<float>(random.unit());
        definition.std[c] = static_cast<float>(0.05 + random.unit());
    }
    return definition;
}

inline std::string describe(std::int64_t height, std::int64_t width,
                            const edgetl::Definition& definition) {
    return std::to_string(height) + " x " + std::to_string(width) + " to " +
           std::to_string(definition.resize) + " / " + std::to_string(definition.size) +
           (definition.filter == edgetl::Filter::kBicubic ? " bicubic" : " bilinear") +
           (definition.layout == edgetl::Layout::kNchw ? " nchw" : " nhwc") +
           (definition.fit == edgetl::Fit::kSquash ? " squash" : " shortest") + " dtype " +
           std::to_string(static_cast<int>(definition.dtype));
}

// The output's bytes; throws std::logic_error if anything beside them was written.
inline std::vector<std::uint8_t> run(const edgetl::Image& image,
                                     const edgetl::Definition& definition, int threads,
                                     edgetl::Isa isa) {
    constexpr std::size_t kGuard = 64;
    constexpr std::uint8_t kMark = 171;
    const auto count = static_cast<std::size_t>(edgetl::output_bytes(definition));
    std::vector<std::uint8_t> buffer(count + 2 * kGuard, kMark);
    edgetl::preprocess(image, definition, buffer.data() + kGuard, threads, isa);
    const auto marked = [](std::uint8_t byte) { return byte == kMark; };
    if (!std::all_of(buffer.begin(), buffer.begin() + kGuard, marked) ||
        !std::all_of(buffer.end() - kGuard, buffer.end(), marked))
        throw std::logic_error("wrote beside the output");
    return {buffer.begin() + kGuard, buffer.end() - kGuard};
}

// The instruction sets of this machine, the plain one first.
inline std::vector<edgetl::Isa> machine_isas() {
    std::vector<edgetl::Isa> result;
    for (const edgetl::Isa isa : edgetl::kIsas)
        if (edgetl::has_isa(isa)) result.push_back(isa);
    return result;
}

}  // namespace check
