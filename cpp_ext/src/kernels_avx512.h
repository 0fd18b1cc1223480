// What the two files of AVX-512 loops share.
#pragma once

#include <cstdint>

#include "kernels.h"

#ifdef EDGETL_X86
namespace edgetl {

// Writes a weight's three signed 8-bit digits, the lowest first, `step` bytes apart.
inline void put_digits(std::int32_t weight, std::int8_t* bytes, std::int64_t step) {
    for (int d = 0; d < 3; ++d) {
        const auto digit = static_cast<std::int8_t>(weight & 0xff);
        bytes[d * step] = digit;
        weight = (weight - digit) / 256;
    }
}

// For the loop of kernels_avx512_vbmi.cpp; `run` is null where the axis does not suit it.
Columns pack_flat_columns(const Axis& axis);

}  // namespace edgetl
#endif
