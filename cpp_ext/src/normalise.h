// (value / 255 - mean) / std in float32, rounded after each step as torch does it.
//
// A uint8 has 256 values, so the truth is a table. Vector kernels rather compute: a quotient of two
// floats is a product with a two-float reciprocal, rounded once. That this equals the table is
// checked for all 256 values when the constants are made; where it does not, `exact` says to look
// up instead.
#pragma once

#include <cstdint>

namespace edgetl {

// The constants repeat red, green, blue, so that a vector of up to 16 lanes loaded from channel c
// on has the right constant in each lane when channels alternate.
constexpr int kRepeat = 3 + 16;

struct Normal {
    float table[3][256];
    float mean[kRepeat];
    float inverse_high[kRepeat];  // 1 / std as the unevaluated sum high + low
    float inverse_low[kRepeat];
    bool exact;  // the computed form equals the table everywhere
};

// 1 / 255 as the unevaluated sum of two floats.
constexpr float kPixelHigh = static_cast<float>(1.0 / 255.0);
constexpr float kPixelLow = static_cast<float>(1.0 / 255.0 - static_cast<double>(kPixelHigh));

// Looks up n values; channels alternate from `channel` on, or all are of it.
void look_up(const std::uint8_t* values, std::int64_t n, const Normal& normal, int channel,
             bool alternate, float* out);

Normal make_normal(const float mean[3], const float std[3]);

}  // namespace edgetl
