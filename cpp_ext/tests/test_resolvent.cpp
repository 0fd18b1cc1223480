// The resolvent of a growing scatter against solutions in long double.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "edgetl/heads.h"
#include "random.h"

namespace {

using edgetl::Status;

constexpr std::int64_t kDim = 19, kClasses = 3, kOrders = 4;

// (S + I) with S as the sum of rows' squares, and its solutions by elimination.
struct Truth {
    std::vector<long double> matrix = std::vector<long double>(kDim * kDim);

    Truth() {
        for (std::int64_t i = 0; i < kDim; ++i) matrix[i * kDim + i] = 1;
    }
    void add(const std::vector<double>& z) {
        for (std::int64_t i = 0; i < kDim; ++i)
            for (std::int64_t j = 0; j < kDim; ++j)
                matrix[i * kDim + j] += static_cast<long double>(z[i]) * z[j];
    }
    std::vector<long double> solve(std::vector<long double> b) const {
        std::vector<long double> a = matrix;
        for (std::int64_t k = 0; k < kDim; ++k)
            for (std::int64_t i = k + 1; i < kDim; ++i) {
                const long double factor = a[i * kDim + k] / a[k * kDim + k];
                for (std::int64_t j = k; j < kDim; ++j) a[i * kDim + j] -= factor * a[k * kDim + j];
                b[i] -= factor * b[k];
            }
        for (std::int64_t i = kDim; i-- > 0;) {
            for (std::int64_t j = i + 1; j < kDim; ++j) b[i] -= a[i * kDim + j] * b[j];
            b[i] /= a[i * kDim + i];
        }
        return b;
    }
};

struct Resolvent {
    std::vector<double> inverse = std::vector<double>(kDim * (kDim + 1) / 2);
    std::vector<double> powers = std::vector<double>(kOrders * kClasses * kDim);
    std::vector<double> scratch = std::vector<double>(kOrders * (kDim + kClasses));

    Resolvent() {  // no scatter and no vectors yet: the identity, and zeros
        for (std::int64_t i = 0; i < kDim; ++i) inverse[i * (i + 1) / 2 + i] = 1;
    }
    Status update(const std::vector<double>& z, const std::vector<double>& shift, edgetl::Isa isa) {
        return edgetl::resolvent_update(inverse.data(), powers.data(), kOrders, kClasses, kDim,
                                        z.data(), shift.data(), scratch.data(), isa);
    }
};

std::vector<double> some(check::Random& random, std::int64_t count) {
    std::vector<double> values(count);
    for (double& value : values) value = 4 * random.unit() - 2;
    return values;
}

}  // namespace

TEST(a_resolvent_and_its_powers_are_solutions) {
    for (const edgetl::Isa isa : edgetl::kIsas) {
        check::Random random(7);
        Resolvent kept;
        Truth truth;
        std::vector<std::vector<long double>> vectors(kClasses, std::vector<long double>(kDim));
        for (int step = 0; step < 25; ++step) {
            const auto z = some(random, kDim), shift = some(random, kClasses);
            CHECK(kept.update(z, shift, isa) == Status::kOk);
            truth.add(z);
            for (std::int64_t c = 0; c < kClasses; ++c)
                for (std::int64_t j = 0; j < kDim; ++j)
                    vectors[c][j] += static_cast<long double>(shift[c]) * z[j];
        }
        for (std::int64_t c = 0; c < kClasses; ++c) {
            std::vector<long double> power = vectors[c];
            for (std::int64_t k = 0; k < kOrders; ++k) {
                power = truth.solve(power);
                for (std::int64_t j = 0; j < kDim; ++j) {
                    const double found = kept.powers[(k * kClasses + c) * kDim + j];
                    CHECK(std::abs(found - static_cast<double>(power[j])) < 1e-10);
                }
            }
        }
    }
}

TEST(a_packed_product_undoes_its_solution) {
    check::Random random(8);
    Resolvent kept;
    Truth truth;
    const auto vectors = some(random, 2 * kDim);
    for (int step = 0; step < 10; ++step) {
        const auto z = some(random, kDim);
        CHECK(kept.update(z, std::vector<double>(kClasses), edgetl::best_isa()) == Status::kOk);
        truth.add(z);
    }
    std::vector<double> out(2 * kDim);
    CHECK(edgetl::packed_multiply(kept.inverse.data(), kDim, vectors.data(), 2, out.data(),
                                  edgetl::best_isa()) == Status::kOk);
    for (std::int64_t n = 0; n < 2; ++n) {
        const auto exact =
            truth.solve({vectors.begin() + n * kDim, vectors.begin() + (n + 1) * kDim});
        for (std::int64_t j = 0; j < kDim; ++j)
            CHECK(std::abs(out[n * kDim + j] - static_cast<double>(exact[j])) < 1e-12);
    }
}

TEST(a_resolvent_refuses_what_can_not_be_and_changes_nothing) {
    check::Random random(9);
    Resolvent kept;
    auto z = some(random, kDim), shift = some(random, kClasses);
    CHECK(kept.update(z, shift, edgetl::best_isa()) == Status::kOk);
    const Resolvent before = kept;
    z[3] = std::numeric_limits<double>::quiet_NaN();
    CHECK(kept.update(z, shift, edgetl::best_isa()) == Status::kNotFinite);
    z[3] = 1e200;
    CHECK(kept.update(z, shift, edgetl::best_isa()) == Status::kNotFinite);
    z[3] = 1;
    shift[1] = std::numeric_limits<double>::infinity();
    CHECK(kept.update(z, shift, edgetl::best_isa()) == Status::kNotFinite);
    CHECK(before.inverse == kept.inverse && before.powers == kept.powers);
    shift[1] = 1;
    for (double& value : kept.inverse) value = -value;
    CHECK(kept.update(z, shift, edgetl::best_isa()) == Status::kRefused);
    CHECK(before.powers == kept.powers);
}
