// What Python says of preprocessing, as the core's Definition: for the CPU's and the GPU's
// bindings.
//
// Checks nothing, and leaves the type of the output as it is by default.
#pragma once

#include <array>
#include <cstdint>

#include "edgetl/preprocess.h"

inline edgetl::Definition define(std::int64_t size, std::int64_t resize, bool bicubic, bool nhwc,
                                 bool squash, const std::array<double, 3>& mean,
                                 const std::array<double, 3>& std) {
    edgetl::Definition definition{};
    definition.size = size;
    definition.resize = resize;
    definition.filter = bicubic ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
    definition.layout = nhwc ? edgetl::Layout::kNhwc : edgetl::Layout::kNchw;
    definition.fit = squash ? edgetl::Fit::kSquash : edgetl::Fit::kShortest;
    for (int c = 0; c < 3; ++c) {
        definition.mean[c] = static_cast<float>(mean[c]);
        definition.std[c] = static_cast<float>(std[c]);
    }
    return definition;
}
