// Conversions between float32 and 16-bit floats; see half.h.
#include "half.h"

#include <algorithm>
#include <cstring>

#include "edgetl/arithmetic.h"
#include "kernels.h"

#if defined(EDGETL_X86)
#include <immintrin.h>
#elif defined(EDGETL_NEON)
#include <arm_neon.h>
#endif

namespace edgetl {
namespace {

float from_bits(std::uint32_t bits) {
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

float from_float16(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t rest = half & 0x7fffu;
    if (rest >= 0x7c00u) return from_bits(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
    if (rest >= 0x0400u) return from_bits(sign | ((rest << 13) + 0x38000000u));
    // Zero, or a subnormal: a count of the smallest number, 2^-24.
    const float size = static_cast<float>(rest) * 5.9604644775390625e-8f;
    return sign ? -size : size;
}

#ifdef EDGETL_X86
// The number of values done; the caller does the rest. A NaN loses its payload first, as the
// portable conversion drops it.
__attribute__((target("avx2,f16c"))) std::int64_t narrow_avx2(const float* values,
                                                              std::int64_t count,
                                                              std::uint16_t* out) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 x = _mm256_loadu_ps(values + i);
        const __m256 missing = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
        const __m256 plain = _mm256_or_ps(_mm256_and_ps(x, sign), quiet);
        const __m128i half =
            _mm256_cvtps_ph(_mm256_blendv_ps(x, plain, missing), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), half);
    }
    return i;
}

__attribute__((target("avx2,f16c"))) std::int64_t widen_avx2(const std::uint16_t* values,
                                                             std::int64_t count, float* out) {
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + i));
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
    }
    return i;
}
#endif

#ifdef EDGETL_NEON
std::int64_t narrow_neon(const float* values, std::int64_t count, std::uint16_t* out) {
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float32x4_t x = vld1q_f32(values + i);
        const uint32x4_t bits = vreinterpretq_u32_f32(x);
        const uint32x4_t plain =
            vorrq_u32(vandq_u32(bits, vdupq_n_u32(0x80000000u)), vdupq_n_u32(0x7fc00000u));
        const uint32x4_t kept = vbslq_u32(vceqq_f32(x, x), bits, plain);
        const float16x4_t half = vcvt_f16_f32(vreinterpretq_f32_u32(kept));
        vst1_u16(out + i, vreinterpret_u16_f16(half));
    }
    return i;
}

std::int64_t widen_neon(const std::uint16_t* values, std::int64_t count, float* out) {
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(values + i))));
    return i;
}
#endif

// Eight at a time on every processor that converts at all: memory is what limits it.
std::int64_t narrow_wide([[maybe_unused]] const float* values, [[maybe_unused]] std::int64_t count,
                         [[maybe_unused]] std::uint16_t* out, [[maybe_unused]] Isa isa) {
#if defined(EDGETL_X86)
    if (std::min(isa, best_isa()) >= Isa::kAvx2) return narrow_avx2(values, count, out);
#elif defined(EDGETL_NEON)
    if (isa != Isa::kPortable) return narrow_neon(values, count, out);
#endif
    return 0;
}

std::int64_t widen_wide([[maybe_unused]] const std::uint16_t* values,
                        [[maybe_unused]] std::int64_t count, [[maybe_unused]] float* out,
                        [[maybe_unused]] Isa isa) {
#if defined(EDGETL_X86)
    if (std::min(isa, best_isa()) >= Isa::kAvx2) return widen_avx2(values, count, out);
#elif defined(EDGETL_NEON)
    if (isa != Isa::kPortable) return widen_neon(values, count, out);
#endif
    return 0;
}

}  // namespace

void to_float16(const float* values, std::int64_t count, std::uint16_t* out, Isa isa) {
    for (std::int64_t i = narrow_wide(values, count, out, isa); i < count; ++i)
        out[i] = to_float16(values[i]);
}

void from_float16(const std::uint16_t* values, std::int64_t count, float* out, Isa isa) {
    for (std::int64_t i = widen_wide(values, count, out, isa); i < count; ++i)
        out[i] = from_float16(values[i]);
}

void to_bfloat16(const float* values, std::int64_t count, std::uint16_t* out, Isa /*isa*/) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = to_bfloat16(values[i]);
}

void from_bfloat16(const std::uint16_t* values, std::int64_t count, float* out, Isa /*isa*/) {
    for (std::int64_t i = 0; i < count; ++i)
        out[i] = from_bits(static_cast<std::uint32_t>(values[i]) << 16);
}

}  // namespace edgetl
