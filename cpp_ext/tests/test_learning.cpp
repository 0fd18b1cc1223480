// Updates of ridge and softmax regression against plain sums and solutions in long double.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "edgetl/heads.h"
#include "random.h"

namespace {

using edgetl::Status;

// Solves a x = b for a positive definite a, by elimination.
std::vector<long double> solve(std::vector<long double> a, std::vector<long double> b) {
    const std::size_t n = b.size();
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t i = k + 1; i < n; ++i) {
            const long double factor = a[i * n + k] / a[k * n + k];
            for (std::size_t j = k; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    for (std::size_t i = n; i-- > 0;) {
        for (std::size_t j = i + 1; j < n; ++j) b[i] -= a[i * n + j] * b[j];
        b[i] /= a[i * n + i];
    }
    return b;
}

struct Ridge {
    std::int64_t dim, classes;
    std::vector<double> inverse, coef, intercept, mean, target_mean, total, scratch;

    Ridge(std::int64_t dim_, std::int64_t classes_, double alpha)
        : dim(dim_),
          classes(classes_),
          inverse(dim_ * (dim_ + 1) / 2),
          coef(dim_ * classes_),
          intercept(classes_),
          mean(dim_),
          target_mean(classes_),
          total(1),
          scratch(2 * dim_) {
        for (std::int64_t i = 0; i < dim; ++i) inverse[i * (i + 1) / 2 + i] = 1 / alpha;
    }

    Status update(const float* x, const double* targets, double weight, edgetl::Isa isa) {
        const edgetl::RidgeState state{inverse.data(), coef.data(),        intercept.data(),
                                       mean.data(),    target_mean.data(), total.data()};
        return edgetl::ridge_update(state, dim, classes, x, targets, weight, scratch.data(), isa);
    }

    std::vector<double> all() const {
        std::vector<double> values = inverse;
        for (const auto* part : {&coef, &intercept, &mean, &target_mean, &total})
            values.insert(values.end(), part->begin(), part->end());
        return values;
    }
};

struct Samples {
    std::int64_t n, dim, classes;
    std::vector<float> features;
    std::vector<std::int64_t> codes;
    std::vector<double> targets, weights;

    Samples(check::Random& random, std::int64_t n_, std::int64_t dim_, std::int64_t classes_)
        : n(n_), dim(dim_), classes(classes_) {
        for (std::int64_t i = 0; i < n * dim; ++i)
            features.push_back(static_cast<float>(2 * random.unit() - 0.5));
        for (std::int64_t i = 0; i < n; ++i) {
            codes.push_back(random.between(0, classes - 1));
            weights.push_back(0.5 + random.unit());
            for (std::int64_t c = 0; c < classes; ++c)
                targets.push_back(c == codes.back() ? 1.0 : -1.0);
        }
    }
};

// Coefficients of one class from the first `count` samples, by the normal equations.
std::vector<long double> batch(const Samples& samples, std::int64_t count, std::int64_t c,
                               long double alpha) {
    const std::int64_t dim = samples.dim;
    std::vector<long double> mean(dim), matrix(dim * dim), right(dim);
    long double total = 0, target = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        total += samples.weights[i];
        target += samples.weights[i] * samples.targets[i * samples.classes + c];
        for (std::int64_t d = 0; d < dim; ++d)
            mean[d] += samples.weights[i] * static_cast<long double>(samples.features[i * dim + d]);
    }
    for (long double& value : mean) value /= total;
    for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t d = 0; d < dim; ++d) {
            const long double x = samples.weights[i] * (samples.features[i * dim + d] - mean[d]);
            right[d] += x * (samples.targets[i * samples.classes + c] - target / total);
            for (std::int64_t e = 0; e < dim; ++e)
                matrix[d * dim + e] += x * (samples.features[i * dim + e] - mean[e]);
        }
    for (std::int64_t d = 0; d < dim; ++d) matrix[d * dim + d] += alpha;
    return solve(matrix, right);
}

void check_ridge(const Ridge& ridge, const Samples& samples, std::int64_t count, double alpha) {
    for (std::int64_t c = 0; c < samples.classes; ++c) {
        const std::vector<long double> expected = batch(samples, count, c, alpha);
        for (std::int64_t d = 0; d < samples.dim; ++d)
            CHECK(std::abs(ridge.coef[c * samples.dim + d] - expected[d]) <= 1e-9L);
    }
}

struct Softmax {
    std::vector<double> coef, intercept, coef_velocity, intercept_velocity;
    double loss = 0;

    Status step(const Samples& samples, const edgetl::SgdStep& how, edgetl::Isa isa) {
        std::vector<double> scratch(static_cast<std::size_t>(samples.n * samples.classes));
        return edgetl::softmax_step(samples.features.data(), samples.codes.data(),
                                    samples.weights.data(), samples.n, samples.dim, samples.classes,
                                    how, coef.data(), intercept.data(), coef_velocity.data(),
                                    intercept_velocity.data(), scratch.data(), &loss, isa);
    }
};

Softmax random_softmax(check::Random& random, const Samples& samples) {
    Softmax head;
    for (std::int64_t i = 0; i < samples.classes * samples.dim; ++i) {
        head.coef.push_back(random.unit() - 0.5);
        head.coef_velocity.push_back(random.unit() - 0.5);
    }
    for (std::int64_t c = 0; c < samples.classes; ++c) {
        head.intercept.push_back(random.unit() - 0.5);
        head.intercept_velocity.push_back(random.unit() - 0.5);
    }
    return head;
}

}  // namespace

TEST(ridge_sample_by_sample_is_the_batch) {
    check::Random random(1);
    for (const std::int64_t dim : {1, 2, 7, 8, 9, 33})
        for (const std::int64_t classes : {1, 3}) {
            const Samples samples(random, 24, dim, classes);
            std::vector<double> first;
            for (const edgetl::Isa isa : edgetl::kIsas) {
                if (!edgetl::has_isa(isa)) continue;
                Ridge ridge(dim, classes, 0.25);
                for (std::int64_t i = 0; i < samples.n; ++i)
                    CHECK(ridge.update(&samples.features[i * dim], &samples.targets[i * classes],
                                       samples.weights[i], isa) == Status::kOk);
                check_ridge(ridge, samples, samples.n, 0.25);
                for (std::int64_t i = samples.n - 1; i >= 10; --i)
                    CHECK(ridge.update(&samples.features[i * dim], &samples.targets[i * classes],
                                       -samples.weights[i], isa) == Status::kOk);
                check_ridge(ridge, samples, 10, 0.25);
                if (first.empty()) first = ridge.all();
                CHECK(first == ridge.all());
            }
        }
}

TEST(ridge_refuses_what_has_no_meaning_and_changes_nothing) {
    check::Random random(2);
    const Samples samples(random, 5, 9, 2);
    const edgetl::Isa isa = edgetl::best_isa();
    Ridge ridge(9, 2, 0.5);
    CHECK(ridge.update(samples.features.data(), samples.targets.data(), -1, isa) ==
          Status::kRefused);
    for (std::int64_t i = 0; i < 5; ++i)
        ridge.update(&samples.features[i * 9], &samples.targets[i * 2], 1, isa);
    const std::vector<double> before = ridge.all();
    std::vector<float> far(9, 1e3f);
    CHECK(ridge.update(far.data(), samples.targets.data(), -1, isa) == Status::kRefused);
    CHECK(ridge.update(samples.features.data(), samples.targets.data(), -5, isa) ==
          Status::kRefused);
    CHECK(ridge.update(samples.features.data(), samples.targets.data(), 0, isa) ==
          Status::kRefused);
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        far[8] = bad;
        CHECK(ridge.update(far.data(), samples.targets.data(), 1, isa) == Status::kNotFinite);
        const double targets[] = {1.0, bad};
        CHECK(ridge.update(samples.features.data(), targets, 1, isa) == Status::kNotFinite);
        CHECK(ridge.update(samples.features.data(), samples.targets.data(), bad, isa) ==
              Status::kNotFinite);
    }
    CHECK(before == ridge.all());
}

TEST(a_step_follows_the_slope_of_the_loss) {
    check::Random random(3);
    const edgetl::SgdStep how{0.25, 0.5, 0.75};
    for (const std::int64_t n : {1, 3, 4, 9})
        for (const std::int64_t dim : {1, 8, 300}) {
            const std::int64_t classes = 3;
            const Samples samples(random, n, dim, classes);
            const Softmax start = random_softmax(random, samples);
            std::vector<double> first;
            for (const edgetl::Isa isa : edgetl::kIsas) {
                if (!edgetl::has_isa(isa)) continue;
                Softmax head = start;
                CHECK(head.step(samples, how, isa) == Status::kOk);
                if (first.empty()) first = head.coef;
                CHECK(first == head.coef);
            }
            long double total = 0;
            for (const double weight : samples.weights) total += weight;
            std::vector<long double> gradient(dim * classes);
            for (std::int64_t i = 0; i < n; ++i) {
                std::vector<long double> chances(classes);
                long double sum = 0;
                for (std::int64_t c = 0; c < classes; ++c) {
                    long double score = start.intercept[c];
                    for (std::int64_t d = 0; d < dim; ++d)
                        score += static_cast<long double>(start.coef[c * dim + d]) *
                                 samples.features[i * dim + d];
                    sum += chances[c] = std::exp(score);
                }
                for (std::int64_t c = 0; c < classes; ++c)
                    for (std::int64_t d = 0; d < dim; ++d)
                        gradient[c * dim + d] +=
                            samples.weights[i] / total * samples.features[i * dim + d] *
                            (chances[c] / sum - (c == samples.codes[i] ? 1 : 0));
            }
            for (std::int64_t k = 0; k < dim * classes; ++k) {
                const long double velocity =
                    0.75L * start.coef_velocity[k] + gradient[k] + 0.5L * start.coef[k];
                CHECK(std::abs(first[k] - (start.coef[k] - 0.25L * velocity)) <= 1e-12L);
            }
        }
}

TEST(a_step_on_what_is_not_finite_changes_nothing) {
    check::Random random(4);
    Samples samples(random, 3, 10, 4);
    Softmax head = random_softmax(random, samples);
    const Softmax before = head;
    samples.features[29] = std::numeric_limits<float>::infinity();
    CHECK(head.step(samples, {0.1, 0, 0.9}, edgetl::best_isa()) == Status::kNotFinite);
    CHECK(before.coef == head.coef && before.coef_velocity == head.coef_velocity);
    CHECK(before.intercept == head.intercept);
    samples.weights.assign(3, 0.0);
    CHECK(head.step(samples, {0.1, 0, 0.9}, edgetl::best_isa()) == Status::kRefused);
}

// Additions, products, quotients and roots are IEEE 754's, and their order is fixed.
TEST(what_is_learned_has_the_same_bits_on_every_machine) {
    check::Random random(5);
    const Samples samples(random, 12, 37, 3);
    Ridge ridge(37, 3, 0.5);
    for (std::int64_t i = 0; i < samples.n; ++i)
        ridge.update(&samples.features[i * 37], &samples.targets[i * 3], samples.weights[i],
                     edgetl::best_isa());
    Softmax head = random_softmax(random, samples);
    for (int i = 0; i < 3; ++i) head.step(samples, {0.5, 0.01, 0.9}, edgetl::best_isa());
    std::vector<double> all = ridge.all();
    all.insert(all.end(), head.coef.begin(), head.coef.end());
    all.insert(all.end(), head.intercept.begin(), head.intercept.end());
    CHECK_EQUAL(check::fnv1a(all.data(), all.size() * sizeof(double)),
                std::uint64_t{17425314607813195997u}, "");
}
