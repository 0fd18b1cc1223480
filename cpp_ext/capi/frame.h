// A camera frame as RGB, the way round it is meant: see edgetl_frame.
#pragma once

#include <cstdint>

#include "edgetl.h"
#include "edgetl/preprocess.h"

namespace edgetl::capi {

// Throws Failure unless the frame can be read. Strides of 0 become the length of a row.
void check(edgetl_frame& frame);

// The sides of the frame when upright.
std::int64_t upright_height(const edgetl_frame& frame);
std::int64_t upright_width(const edgetl_frame& frame);

// Writes a part of the upright frame, which lies inside it, as packed RGB without gaps.
void to_rgb(const edgetl_frame& frame, const Box& part, std::uint8_t* out);

}  // namespace edgetl::capi
