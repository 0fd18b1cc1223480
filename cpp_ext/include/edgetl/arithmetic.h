// The scalar arithmetic that the CPU's kernels and the GPU's have in common.
//
// One definition of every number that a preprocessed photo is made of: resampling weights in the
// fixed-point arithmetic of Pillow's 8-bit resize, the byte a sum of products becomes, its
// normalisation, and the rounding to 16-bit floats. Each expression keeps the order of operations
// and the roundings; both compilers are told not to contract products and sums. Knows nothing about
// images, memory or threads.
#pragma once

#include <cstdint>
#include <cstring>

// Functions of this file run on the GPU too where nvcc compiles them.
#if defined(__CUDACC__)
#define EDGETL_SHARED __host__ __device__ inline
#else
#define EDGETL_SHARED inline
#endif

namespace edgetl {

enum class Filter { kBilinear, kBicubic };

// Weights have 22 fractional bits: 32 minus 8 for the pixel minus 2 for overshoot and sign.
constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);  // one half

// The triangle, zero from 1 on; or Keys' cubic convolution with a = -0.5, zero from 2 on (R. Keys,
// IEEE Trans. ASSP 29(6), 1981).
EDGETL_SHARED double filter_value(Filter filter, double x) {
    constexpr double a = -0.5;
    x = x < 0.0 ? -x : x;
    if (filter == Filter::kBilinear) return x < 1.0 ? 1.0 - x : 0.0;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

// Where one output of an axis looks, when `in` samples become `out`.
struct Tap {
    double center;      // in input samples
    double step;        // from one input sample to the next, in units of the filter
    std::int64_t low;   // first input sample
    std::int64_t high;  // one beyond the last
};

EDGETL_SHARED Tap find_tap(std::int64_t in, std::int64_t out, std::int64_t index, Filter filter) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double support = (filter == Filter::kBicubic ? 2.0 : 1.0) * filter_scale;
    Tap tap{};
    tap.center = (static_cast<double>(index) + 0.5) * scale;
    tap.step = 1.0 / filter_scale;
    tap.low = static_cast<std::int64_t>(tap.center - support + 0.5);
    tap.low = tap.low < 0 ? 0 : tap.low;
    tap.high = static_cast<std::int64_t>(tap.center + support + 0.5);
    tap.high = tap.high > in ? in : tap.high;
    return tap;
}

// The weight of input sample `x` before all of them are divided by their sum.
EDGETL_SHARED double raw_weight(const Tap& tap, Filter filter, std::int64_t x) {
    return filter_value(filter, (static_cast<double>(x) - tap.center + 0.5) * tap.step);
}

EDGETL_SHARED std::int32_t to_fixed(double weight) {
    const double scaled = weight * (1 << kPrecisionBits);
    return static_cast<std::int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

// The byte of a sum of pixels times weights that began with kHalf.
EDGETL_SHARED std::uint8_t to_byte(std::int32_t sum) {
    const std::int32_t value = sum >> kPrecisionBits;
    return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// (value / 255 - mean) / std, rounded to float32 after each step, as torch does it.
EDGETL_SHARED float normalise(std::int32_t value, float mean, float std) {
    const float unit = static_cast<float>(value) / 255.0f;
    const float centred = unit - mean;
    return centred / std;
}

EDGETL_SHARED std::uint32_t bits_of(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// The bits of the nearest bfloat16, ties to even; NaN stays NaN.
EDGETL_SHARED std::uint16_t to_bfloat16(float value) {
    const std::uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The bits of the nearest float16 (IEEE 754 binary16), ties to even; beyond 65504 infinity.
EDGETL_SHARED std::uint16_t to_float16(float value) {
    const std::uint32_t sign = (bits_of(value) >> 16) & 0x8000u;
    const std::uint32_t bits = bits_of(value) & 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);     // not a number
    if (bits >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);    // 65520 and more
    const bool subnormal = bits < 0x38800000u;                                     // below 2^-14
    if (subnormal && bits < 0x33000000u) return static_cast<std::uint16_t>(sign);  // below 2^-25
    // The result is `kept`, rounded by the bits shifted out.
    const std::uint32_t shift = subnormal ? 126u - (bits >> 23) : 13u;
    const std::uint32_t kept = subnormal ? (bits & 0x7fffffu) | 0x800000u : bits - 0x38000000u;
    const std::uint32_t rest = kept & ((1u << shift) - 1u), half = 1u << (shift - 1u);
    std::uint32_t result = kept >> shift;
    if (rest > half || (rest == half && (result & 1u))) ++result;
    return static_cast<std::uint16_t>(sign | result);
}

}  // namespace edgetl
