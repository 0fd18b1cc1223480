// The shared scalar arithmetic against definitions that know nothing of bit tricks.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "edgetl/arithmetic.h"
#include "random.h"
#include "resample.h"

namespace {

float from_bits(std::uint32_t bits) {
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// A 16-bit float with `mantissa` explicit bits: float16 has 10, bfloat16 has 7.
struct Format {
    int mantissa;
    int bias;
    std::uint16_t (*round)(float);

    int exponent_bits() const { return 15 - mantissa; }
    int smallest() const { return 1 - bias - mantissa; }  // exponent of the smallest subnormal
    std::uint16_t infinity() const {
        return static_cast<std::uint16_t>(((1 << exponent_bits()) - 1) << mantissa);
    }
    // What the bits of a finite number without its sign mean.
    double meaning(std::uint16_t bits) const {
        const int exponent = bits >> mantissa, fraction = bits & ((1 << mantissa) - 1);
        return exponent == 0 ? std::ldexp(fraction, smallest())
                             : std::ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
    }
    // The number nearest to `value`, ties to even, in doubles, which hold all of this exactly.
    double nearest(double value) const {
        int exponent = 0;
        std::frexp(value, &exponent);
        const int quantum = std::max(exponent - 1 - mantissa, smallest());
        return std::ldexp(std::nearbyint(std::ldexp(value, -quantum)), quantum);
    }
};

const Format kFloat16{10, 15, edgetl::to_float16};
const Format kBfloat16{7, 127, edgetl::to_bfloat16};

void check_rounding(const Format& format, std::uint32_t bits) {
    const float value = from_bits(bits);
    const std::uint16_t result = format.round(value);
    const std::uint16_t magnitude = result & 0x7fffu;
    const std::string context = "float32 bits " + std::to_string(bits);
    if (std::isnan(value)) {
        CHECK(magnitude > format.infinity());
        return;
    }
    CHECK_EQUAL(result >> 15, static_cast<int>(bits >> 31), context);
    const double wanted = format.nearest(std::abs(static_cast<double>(value)));
    const double beyond = std::ldexp(1.0, (1 << format.exponent_bits()) - 1 - format.bias);
    if (wanted >= beyond || std::isinf(value))
        CHECK_EQUAL(magnitude, format.infinity(), context);
    else
        CHECK_EQUAL(format.meaning(magnitude), wanted, context);
}

void check_format(const Format& format) {
    // All numbers of the format, what lies halfway to the next, and the floats beside both.
    for (std::uint32_t half = 0; half < format.infinity(); ++half) {
        const auto at = static_cast<std::uint16_t>(half);
        const double here = format.meaning(at);
        const double next = half + 1u < format.infinity()
                                ? format.meaning(static_cast<std::uint16_t>(half + 1))
                                : 2 * here - format.meaning(static_cast<std::uint16_t>(half - 1));
        for (const double point : {here, here + (next - here) / 2})
            for (const std::uint32_t step : {0u, 1u, 2u}) {
                const std::uint32_t bits = edgetl::bits_of(static_cast<float>(point)) + step - 1u;
                if (bits > 0x7f800000u) continue;  // below zero, stepped down
                check_rounding(format, bits);
                check_rounding(format, bits | 0x80000000u);
            }
    }
    // And the rest in steps of a prime, with every exponent and NaNs of both signs.
    for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += 4099)
        check_rounding(format, static_cast<std::uint32_t>(bits));
    for (const std::uint32_t bits : {0x7f800000u, 0xff800000u, 0x7f800001u, 0xff800001u,
                                     0x7fc00000u, 0x7fffffffu, 0xffffffffu, 0x7f7fffffu})
        check_rounding(format, bits);
}

}  // namespace

TEST(float16_is_the_nearest) {
    check_format(kFloat16);
}

TEST(bfloat16_is_the_nearest) {
    check_format(kBfloat16);
}

TEST(filters_interpolate_and_sum_to_one) {
    using edgetl::Filter;
    using edgetl::filter_value;
    for (const Filter filter : {Filter::kBilinear, Filter::kBicubic}) {
        CHECK_EQUAL(filter_value(filter, 0.0), 1.0, "");
        for (const double x : {1.0, 2.0, 2.5, 100.0, 1e300}) {
            CHECK_EQUAL(filter_value(filter, x), 0.0, "");
            CHECK_EQUAL(filter_value(filter, -x), 0.0, "");
        }
        for (int i = 0; i <= 1000; ++i) {
            const double x = i / 1000.0;
            CHECK_EQUAL(filter_value(filter, x), filter_value(filter, -x), std::to_string(x));
            double sum = 0;
            for (int k = -2; k <= 2; ++k) sum += filter_value(filter, x + k);
            CHECK(std::abs(sum - 1.0) < 1e-14);
        }
    }
    // Keys' cubic halfway: -1/16, 9/16, 9/16, -1/16.
    CHECK_EQUAL(filter_value(Filter::kBicubic, 0.5), 0.5625, "");
    CHECK_EQUAL(filter_value(Filter::kBicubic, 1.5), -0.0625, "");
    CHECK_EQUAL(filter_value(Filter::kBilinear, 0.25), 0.75, "");
}

TEST(weights_of_an_axis_are_a_partition) {
    check::Random random(3);
    for (int turn = 0; turn < 300; ++turn) {
        const std::int64_t in = random.between(1, turn < 150 ? 40 : 3000);
        const std::int64_t out = random.between(1, 300);
        const std::int64_t first = random.between(0, out - 1);
        const std::int64_t count = random.between(1, out - first);
        const auto filter = random.coin() ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
        const edgetl::Axis axis = edgetl::make_axis(in, out, first, count, filter);
        const std::string context = std::to_string(in) + " to " + std::to_string(out);
        CHECK_EQUAL(axis.count, count, context);
        for (std::int64_t i = 0; i < count; ++i) {
            CHECK(axis.start[i] >= 0 && axis.length[i] >= 1);
            CHECK(axis.start[i] + axis.length[i] <= in);
            CHECK(i == 0 || axis.start[i] >= axis.start[i - 1]);
            std::int64_t sum = 0;
            for (std::int64_t t = 0; t < axis.taps; ++t) sum += axis.weights[i * axis.taps + t];
            // Each weight is rounded by up to half a unit.
            CHECK(2 * std::llabs(sum - (1 << edgetl::kPrecisionBits)) <= axis.taps + 1);
        }
    }
}

TEST(axes_that_change_nothing_have_weight_one) {
    for (const auto filter : {edgetl::Filter::kBilinear, edgetl::Filter::kBicubic}) {
        const edgetl::Axis axis = edgetl::make_axis(9, 9, 0, 9, filter);
        for (std::int64_t i = 0; i < 9; ++i)
            for (std::int64_t t = 0; t < axis.taps; ++t)
                CHECK_EQUAL(axis.weights[i * axis.taps + t],
                            axis.start[i] + t == i ? 1 << edgetl::kPrecisionBits : 0, "");
    }
}

TEST(bytes_are_rounded_and_clipped) {
    constexpr std::int32_t kOne = 1 << edgetl::kPrecisionBits;
    for (std::int32_t value = 0; value < 256; ++value) {
        CHECK_EQUAL(int{edgetl::to_byte(value * kOne + edgetl::kHalf)}, value, "");
        CHECK_EQUAL(int{edgetl::to_byte(value * kOne + edgetl::kHalf - edgetl::kHalf)}, value, "");
        if (value > 0) CHECK_EQUAL(int{edgetl::to_byte(value * kOne - 1)}, value - 1, "");
    }
    CHECK_EQUAL(int{edgetl::to_byte(-kOne)}, 0, "");
    CHECK_EQUAL(int{edgetl::to_byte(300 * kOne)}, 255, "");
    CHECK_EQUAL(edgetl::to_fixed(1.0), kOne, "");
    CHECK_EQUAL(edgetl::to_fixed(-1.0), -kOne, "");
    CHECK_EQUAL(edgetl::to_fixed(0.5 / kOne), 1, "away from zero");
    CHECK_EQUAL(edgetl::to_fixed(-0.5 / kOne), -1, "away from zero");
    CHECK_EQUAL(edgetl::to_fixed(0.49 / kOne), 0, "");
}

TEST(normalising_rounds_after_each_step) {
    check::Random random(4);
    for (int turn = 0; turn < 100; ++turn) {
        const float mean = static_cast<float>(random.unit()),
                    std = static_cast<float>(0.01 + random.unit());
        for (std::int32_t value = 0; value < 256; ++value) {
            // Quotients and differences of floats, rounded from double, are rounded right (S.
            // Figueroa, "When is double rounding innocuous?", 1995).
            const auto unit = static_cast<float>(static_cast<double>(value) / 255.0);
            const auto centred = static_cast<float>(static_cast<double>(unit) - mean);
            const auto wanted = static_cast<float>(static_cast<double>(centred) / std);
            CHECK_EQUAL(edgetl::normalise(value, mean, std), wanted, std::to_string(value));
        }
    }
}
