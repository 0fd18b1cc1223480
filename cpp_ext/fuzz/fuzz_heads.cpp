// Fuzzes the heads and the pooling of features: any numbers, infinities and NaN among them, must
// give probabilities, neighbours and the like, or be refused. Sizes are what the bindings let
// through.
#include <cmath>
#include <cstdint>
#include <vector>

#include "edgetl/heads.h"
#include "edgetl/pool.h"
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
    const auto isa = edgetl::kIsas[input.between(0, 4)];
    const bool finite =
        edgetl::linear_probabilities(features.data(), n, dim, coef.data(), intercept.data(),
                                     classes, temperature, out.data(), isa) == edgetl::Status::kOk;
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

void neighbours(fuzz::Input& input) {
    const std::int64_t n = input.between(0, 4), dim = input.between(0, 40);
    const std::int64_t m = input.between(1, 9), k = input.between(0, m);
    const bool tame = input.coin();
    const auto isa = edgetl::kIsas[input.between(0, 4)];
    const auto features = numbers<float>(input, n * dim, tame);
    const auto rows = numbers<float>(input, m * dim, tame);
    const auto wide = numbers<double>(input, m * dim, tame);
    const auto middle = numbers<double>(input, dim, tame);
    std::vector<float> queries(static_cast<std::size_t>(n * dim));
    std::vector<std::int64_t> indices(static_cast<std::size_t>(n * k), -1);
    std::vector<double> found(static_cast<std::size_t>(n * k)), cosines(n * m), scratch(dim + m);
    const auto near = edgetl::nearest(features.data(), n, dim, rows.data(), m, k, queries.data(),
                                      indices.data(), found.data(), isa);
    fuzz::require(near == edgetl::Status::kOk || !tame, "ordinary numbers have neighbours");
    if (near == edgetl::Status::kOk)
        for (const std::int64_t index : indices)
            fuzz::require(index >= 0 && index < m, "neighbours are rows");
    const auto status =
        edgetl::cosine(features.data(), n, dim, wide.data(), m,
                       input.coin() ? middle.data() : nullptr, scratch.data(), cosines.data(), isa);
    fuzz::require(status == edgetl::Status::kOk || !tame, "ordinary numbers have cosines");
    if (status == edgetl::Status::kOk)
        for (const double value : cosines)
            fuzz::require(std::abs(value) < 1 + 1e-9, "cosines lie in [-1, 1]");
}

void learning(fuzz::Input& input) {
    const std::int64_t n = input.between(1, 4), dim = input.between(1, 20);
    const std::int64_t classes = input.between(1, 5);
    const bool tame = input.coin();
    const auto isa = edgetl::kIsas[input.between(0, 4)];
    const auto features = numbers<float>(input, n * dim, tame);
    const auto targets = numbers<double>(input, classes, tame);
    std::vector<double> inverse(dim * (dim + 1) / 2), coef(dim * classes), intercept(classes);
    std::vector<double> mean(dim), target_mean(classes), total(1), scratch(2 * dim);
    for (std::int64_t i = 0; i < dim; ++i) inverse[i * (i + 1) / 2 + i] = 1;
    const edgetl::RidgeState state{inverse.data(), coef.data(),        intercept.data(),
                                   mean.data(),    target_mean.data(), total.data()};
    for (std::int64_t i = 0; i < n; ++i) {
        const double weight = tame ? 1.0 : input.number<double>(-2, 2);
        const auto status = edgetl::ridge_update(state, dim, classes, &features[i * dim],
                                                 targets.data(), weight, scratch.data(), isa);
        fuzz::require(status == edgetl::Status::kOk || !tame, "ordinary samples are learned");
    }
    std::vector<std::int64_t> codes;
    for (std::int64_t i = 0; i < n; ++i) codes.push_back(input.between(0, classes - 1));
    std::vector<double> moving(dim * classes), turning(classes), residuals(n * classes);
    double loss = -1;
    const edgetl::SgdStep step{0.01, 0.01, input.coin() ? 0.5 : 0.0};
    const auto status = edgetl::softmax_step(
        features.data(), codes.data(), nullptr, n, dim, classes, step, moving.data(),
        turning.data(), coef.data(), intercept.data(), residuals.data(), &loss, isa);
    fuzz::require(status == edgetl::Status::kOk || !tame, "ordinary batches are learned");
    if (status == edgetl::Status::kOk) fuzz::require(loss >= 0, "a log loss is not negative");
}

void scatter(fuzz::Input& input) {
    const std::int64_t n = input.between(1, 4), dim = input.between(1, 20);
    const std::int64_t classes = input.between(1, 5), orders = input.between(1, 8);
    const bool tame = input.coin();
    const auto isa = edgetl::kIsas[input.between(0, 4)];
    const auto rows = numbers<double>(input, n * dim, tame);
    const auto shift = numbers<double>(input, classes, tame);
    std::vector<double> inverse(dim * (dim + 1) / 2), powers(orders * classes * dim);
    std::vector<double> scratch(orders * (dim + classes)), out(n * dim);
    for (std::int64_t i = 0; i < dim; ++i) inverse[i * (i + 1) / 2 + i] = 1;
    for (std::int64_t i = 0; i < n; ++i) {
        const auto status =
            edgetl::resolvent_update(inverse.data(), powers.data(), orders, classes, dim,
                                     &rows[i * dim], shift.data(), scratch.data(), isa);
        fuzz::require(status == edgetl::Status::kOk || !tame, "ordinary rows are added");
    }
    const auto status =
        edgetl::packed_multiply(inverse.data(), dim, rows.data(), n, out.data(), isa);
    fuzz::require(status == edgetl::Status::kOk || !tame, "ordinary vectors are multiplied");
    for (std::int64_t i = 0; tame && i < dim; ++i) {
        const double value = inverse[i * (i + 1) / 2 + i];
        fuzz::require(value > -1e-6 && value <= 1 + 1e-6, "a scatter only lowers its resolvent");
    }
}

void pool(fuzz::Input& input) {
    edgetl::PoolTask task{};
    const std::int64_t n = input.between(0, 3);
    task.channels = input.between(0, 70);
    task.positions = input.between(1, 10);
    task.layout = input.coin() ? edgetl::Layout::kNchw : edgetl::Layout::kNhwc;
    task.normalise = input.coin();
    task.eps = input.coin() ? 0.0 : 1e-12;
    task.storage = static_cast<edgetl::Storage>(input.between(0, 2));
    const bool tame = input.coin();
    const auto isa = edgetl::kIsas[input.between(0, 4)];
    const auto maps = numbers<float>(input, n * task.channels * task.positions, tame);
    std::vector<float> scratch(task.channels), out(n * task.channels);
    std::vector<edgetl::RowState> states(n);
    std::vector<double> losses(n);
    edgetl::pool(maps.data(), n, task, scratch.data(), out.data(), states.data(), losses.data(),
                 isa);
    for (std::int64_t i = 0; i < n; ++i) {
        const bool fine = states[i] == edgetl::RowState::kFine;
        fuzz::require(fine || !tame, "ordinary rows are fine");
        fuzz::require(!fine || (losses[i] >= 0 && losses[i] <= 1), "a loss is a share");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    switch (input.between(0, 4)) {
        case 0:
            linear_probabilities(input);
            break;
        case 1:
            neighbours(input);
            break;
        case 2:
            learning(input);
            break;
        case 3:
            scatter(input);
            break;
        default:
            pool(input);
    }
    return 0;
}
