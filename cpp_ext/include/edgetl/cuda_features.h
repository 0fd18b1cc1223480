// From a network's last maps to features, on the GPU: plain pointers, sizes and a stream.
#pragma once

#include <cstdint>

#include "edgetl/cuda_device.h"

namespace edgetl::gpu {

struct Maps {
    const void* data;  // device
    std::int64_t n;
    std::int64_t channels;
    std::int64_t positions;  // height times width; 1 for features that are pooled already
    bool channels_last;      // (n, h, w, c) in memory, else (n, c, h, w)
    Number number;           // any but kUint8
};

// Most channels of a map.
constexpr std::int64_t kMostChannels = 8192;

// The mean over all positions, divided by its length (L2) if `unit`; (n, channels) numbers to `out`
// (device). Sums are float32, position after position. A vector of zeros stays zeros. Throws
// std::invalid_argument beyond kMostChannels.
void pool(const Maps& maps, bool unit, Number number, void* out, const Queue& queue);

}  // namespace edgetl::gpu
