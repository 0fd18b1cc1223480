// Rows of float32 to 16-bit floats and back, with the processor's own conversion where it has one.
#pragma once

#include <cstdint>

#include "edgetl/preprocess.h"  // Isa

namespace edgetl {

// What to_float16 of arithmetic.h gives for each value, NaN too.
void to_float16(const float* values, std::int64_t count, std::uint16_t* out, Isa isa);
// Exact; NaN stays NaN.
void from_float16(const std::uint16_t* values, std::int64_t count, float* out, Isa isa);
void to_bfloat16(const float* values, std::int64_t count, std::uint16_t* out, Isa isa);
void from_bfloat16(const std::uint16_t* values, std::int64_t count, float* out, Isa isa);

}  // namespace edgetl
