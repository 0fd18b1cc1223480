// Small pieces of the kernels' bodies: reading and writing numbers, and sums of four products.
//
// On the device each is an instruction or two; on the host it is spelled out, to the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "edgetl/arithmetic.h"
#include "edgetl/cuda_device.h"

namespace edgetl::gpu {

// sum + a0 * b0 + ... + a3 * b3 for unsigned bytes of `a` and unsigned or signed ones of `b`.
template <bool kSigned>
EDGETL_SHARED std::int32_t dot4(std::uint32_t a, std::uint32_t b, std::int32_t sum) {
#if defined(__CUDA_ARCH__)
    std::int32_t result;
    if (kSigned)
        asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    else
        asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
#else
    for (int i = 0; i < 4; ++i) {
        const auto left = static_cast<std::int32_t>((a >> (8 * i)) & 255u);
        const auto byte = static_cast<std::int32_t>((b >> (8 * i)) & 255u);
        sum += left * (kSigned && byte > 127 ? byte - 256 : byte);
    }
    return sum;
#endif
}

// Four bytes out of the eight of y:x; each digit of `which` names one, the lowest first.
template <std::uint32_t kWhich>
EDGETL_SHARED std::uint32_t pick_bytes(std::uint32_t x, std::uint32_t y) {
#if defined(__CUDA_ARCH__)
    return __byte_perm(x, y, kWhich);
#else
    const std::uint64_t both = (static_cast<std::uint64_t>(y) << 32) | x;
    std::uint32_t result = 0;
    for (int i = 0; i < 4; ++i)
        result |= static_cast<std::uint32_t>((both >> (8 * ((kWhich >> (4 * i)) & 7u))) & 255u)
                  << (8 * i);
    return result;
#endif
}

// The lower word of high:low shifted right by `shift` bits, 0 to 31.
EDGETL_SHARED std::uint32_t shift_right(std::uint32_t low, std::uint32_t high,
                                        std::uint32_t shift) {
#if defined(__CUDA_ARCH__)
    return __funnelshift_r(low, high, shift);
#else
    return static_cast<std::uint32_t>(((static_cast<std::uint64_t>(high) << 32) | low) >> shift);
#endif
}

EDGETL_SHARED float float_of(std::uint32_t bits) {
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

EDGETL_SHARED float from_bfloat16(std::uint16_t bits) {
    return float_of(static_cast<std::uint32_t>(bits) << 16);
}

// Exact: a float16 is a float32 too.
EDGETL_SHARED float from_float16(std::uint16_t bits) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(bits));
#else
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    const std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
    if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction << 13));
    if (exponent != 0) return float_of(sign | ((exponent + 112) << 23) | (fraction << 13));
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -value : value;
#endif
}

EDGETL_SHARED float read_number(const void* data, std::int64_t index, Number number) {
    if (number == Number::kFloat32) return static_cast<const float*>(data)[index];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[index];
    return number == Number::kFloat16 ? from_float16(bits) : from_bfloat16(bits);
}

// The bits of a 16-bit type.
EDGETL_SHARED std::uint16_t narrow(float value, Number number) {
#if defined(__CUDA_ARCH__)
    return number == Number::kFloat16 ? __half_as_ushort(__float2half_rn(value))
                                      : __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    return number == Number::kFloat16 ? to_float16(value) : to_bfloat16(value);
#endif
}

EDGETL_SHARED std::uint32_t narrow_bits(float low, float high, Number number) {
    return static_cast<std::uint32_t>(narrow(low, number)) |
           (static_cast<std::uint32_t>(narrow(high, number)) << 16);
}

EDGETL_SHARED void write_number(void* data, std::int64_t index, Number number, float value) {
    if (number == Number::kFloat32)
        static_cast<float*>(data)[index] = value;
    else
        static_cast<std::uint16_t*>(data)[index] = narrow(value, number);
}

// (value / 255 - mean) / std, either divided, or by products with two-float reciprocals where these
// were found to give the same for all 256 values.
struct Constants {
    float mean[3];
    float std[3];
    float high[3];  // 1 / std is high + low
    float low[3];
    bool exact;
};

constexpr float kUnitHigh = static_cast<float>(1.0 / 255.0);
constexpr float kUnitLow =
    static_cast<float>(1.0 / 255.0 - static_cast<double>(static_cast<float>(1.0 / 255.0)));

EDGETL_SHARED float normalise_fast(std::int32_t value, float mean, float high, float low) {
    const auto pixel = static_cast<float>(value);
    const float unit = fmaf(pixel, kUnitHigh, pixel * kUnitLow);
    const float centred = unit - mean;
    return fmaf(centred, high, centred * low);
}

}  // namespace edgetl::gpu
