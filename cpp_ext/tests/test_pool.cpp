// Pooling, normalising and rounding of features against plain loops in long double.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "edgetl/arithmetic.h"
#include "edgetl/pool.h"
#include "random.h"

namespace {

using edgetl::RowState;

struct Pooled {
    std::vector<float> floats;
    std::vector<std::uint16_t> halves;
    std::vector<RowState> states;
    std::vector<double> losses;
};

Pooled pool(const std::vector<float>& maps, std::int64_t n, const edgetl::PoolTask& task,
            edgetl::Isa isa) {
    const auto count = static_cast<std::size_t>(n * task.channels);
    Pooled result{std::vector<float>(count), std::vector<std::uint16_t>(count),
                  std::vector<RowState>(n), std::vector<double>(n)};
    std::vector<float> scratch(task.channels);
    void* out = result.halves.data();
    if (task.storage == edgetl::Storage::kFloat32) out = result.floats.data();
    edgetl::pool(maps.data(), n, task, scratch.data(), out, result.states.data(),
                 result.losses.data(), isa);
    return result;
}

float near(long double value) {
    return static_cast<float>(value);
}

}  // namespace

TEST(maps_become_means_of_norm_one_and_halves) {
    check::Random random(1);
    for (const std::int64_t channels : {1, 7, 32, 41, 600})
        for (const std::int64_t positions : {1, 4, 49})
            for (const edgetl::Layout layout : {edgetl::Layout::kNchw, edgetl::Layout::kNhwc})
                for (const bool normalise : {false, true}) {
                    const std::int64_t n = 2;
                    std::vector<float> maps;
                    for (std::int64_t i = 0; i < n * channels * positions; ++i)
                        maps.push_back(static_cast<float>(random.unit() - 0.25));
                    edgetl::PoolTask task{channels,  positions, layout,
                                          normalise, 1e-12,     edgetl::Storage::kFloat32};
                    std::vector<float> floats;
                    std::vector<std::uint16_t> halves;
                    for (const edgetl::Isa isa : edgetl::kIsas) {
                        if (!edgetl::has_isa(isa)) continue;
                        task.storage = edgetl::Storage::kFloat32;
                        const Pooled wide = pool(maps, n, task, isa);
                        task.storage = edgetl::Storage::kFloat16;
                        const Pooled narrow = pool(maps, n, task, isa);
                        if (floats.empty()) floats = wide.floats, halves = narrow.halves;
                        CHECK(floats == wide.floats && halves == narrow.halves);
                        CHECK(narrow.states[1] == RowState::kFine && wide.losses[1] == 0);
                        CHECK(narrow.losses[1] < 1e-3);
                    }
                    for (std::int64_t row = 0; row < n; ++row) {
                        std::vector<float> means;
                        long double squares = 0;
                        for (std::int64_t c = 0; c < channels; ++c) {
                            long double sum = 0;
                            for (std::int64_t p = 0; p < positions; ++p)
                                sum += maps[row * channels * positions +
                                            (layout == edgetl::Layout::kNchw ? c * positions + p
                                                                             : p * channels + c)];
                            means.push_back(near(sum / positions));
                            squares += static_cast<long double>(means.back()) * means.back();
                        }
                        for (std::int64_t c = 0; c < channels; ++c) {
                            const float value = floats[row * channels + c];
                            const float expected =
                                normalise ? near(means[c] / std::sqrt(squares)) : means[c];
                            CHECK(std::abs(value - expected) <= 1.2e-7f * std::abs(expected));
                            CHECK(halves[row * channels + c] == edgetl::to_float16(value));
                        }
                    }
                }
}

TEST(rows_that_can_not_be_stored_are_marked) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    for (const edgetl::Isa isa : edgetl::kIsas)
        for (std::int64_t at = 0; at < 19; ++at)
            for (const float bad : {kInfinity, -kInfinity, kNan, 65520.0f, -1e30f, 65504.0f}) {
                std::vector<float> row(19, 1.0f);
                row[at] = bad;
                const edgetl::PoolTask task{19,    1,  edgetl::Layout::kNchw,
                                            false, 0., edgetl::Storage::kFloat16};
                const Pooled found = pool(row, 1, task, isa);
                const RowState expected = !std::isfinite(bad)        ? RowState::kNotFinite
                                          : std::abs(bad) > 65510.0f ? RowState::kBeyondRange
                                                                     : RowState::kFine;
                CHECK_EQUAL(found.states[0], expected, "");
                CHECK_EQUAL(found.halves[at], edgetl::to_float16(bad), "");
            }
}

TEST(every_half_is_widened_exactly) {
    std::vector<std::uint16_t> halves;
    for (std::uint32_t bits = 0; bits < 0x10000u; ++bits)
        halves.push_back(static_cast<std::uint16_t>(bits));
    for (const edgetl::Isa isa : edgetl::kIsas) {
        std::vector<float> wide(halves.size());
        edgetl::widen_float16(halves.data(), static_cast<std::int64_t>(halves.size()), wide.data(),
                              isa);
        for (std::size_t i = 0; i < halves.size(); ++i) {
            const bool missing = (halves[i] & 0x7fffu) > 0x7c00u;
            CHECK(missing ? std::isnan(wide[i]) : edgetl::to_float16(wide[i]) == halves[i]);
        }
    }
}
