// Fuzzes the heads: any numbers, infinities and NaN among them, must give probabilities or be
// refused. Sizes are what the bindings let through.
#include <cmath>
#include <cstdint>
#include <vector>

#include "edgetl/heads.h"
#include "input.h"

namespace {

template <typename Float>
std::vector<Float> numbers(fuzz::Input& input, std::int64_t count, bool tame) {
    std::vector<Float> result;
    for (std::int64_t i = 0; i < count; ++i)
        result.push_back(tame ? static_cast<Float>(input.take<std::int8_t>())
                              : input.number<Float>(-100, 100));
    return result;
}

void linear_probabilities(fuzz::Input& input) {
    const std::int64_t n = input.between(0, 4), dim = input.between(0, 40);
    const std::int64_t classes = input.between(1, 9);
    const bool tame = input.coin();
    const double temperature = tame ? input.between(1, 9) : input.number<double>(0, 2);
    const auto features = numbers<float>(input, n * dim, tame);
    const auto coef = numbers<double>(input, classes * dim, tame);
    const auto intercept = numbers<double>(input, classes, tame);
    std::vector<double> out(static_cast<std::size_t>(n * classes));
    const bool finite = edgetl::linear_probabilities(
        features.data(), n, dim, coef.data(), intercept.data(), classes, temperature, out.data());
    fuzz::require(finite || !tame, "ordinary numbers are taken");
    if (!finite) return;
    for (const float feature : features)
        fuzz::require(std::isfinite(feature), "features that are not finite are refused");
    for (std::int64_t row = 0; row < n; ++row) {
        double sum = 0;
        for (std::int64_t c = 0; c < classes; ++c) {
            const double probability = out[row * classes + c];
            fuzz::require(probability >= 0 && probability <= 1, "probabilities lie in [0, 1]");
            sum += probability;
        }
        fuzz::require(std::abs(sum - 1) < 1e-12, "probabilities sum to 1");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    linear_probabilities(input);
    return 0;
}
