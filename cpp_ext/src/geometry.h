// What preprocess.cpp needs of geometry.cpp beyond the public functions.
#pragma once

#include <cstdint>

#include "edgetl/preprocess.h"

namespace edgetl {

inline std::int64_t value_bytes(Dtype dtype) {
    return dtype == Dtype::kUint8 ? 1 : dtype == Dtype::kFloat32 ? 4 : 2;
}

// Throws std::invalid_argument unless the sizes are in range and the part at hand covers what is
// needed.
void check(const Image& image, const Definition& definition, int threads);

}  // namespace edgetl
