// The small heads against the same formulas written plainly in long double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "edgetl/heads.h"
#include "random.h"

namespace {

struct LinearHead {
    std::int64_t n, dim, classes;
    double temperature;
    std::vector<float> features;
    std::vector<double> coef, intercept;

    // By every instruction set there is, which must not matter.
    std::vector<double> probabilities(bool& finite) const {
        std::vector<double> first;
        for (const edgetl::Isa isa : edgetl::kIsas) {
            if (!edgetl::has_isa(isa)) continue;
            std::vector<double> out(static_cast<std::size_t>(n * classes), -1.0);
            const auto status =
                edgetl::linear_probabilities(features.data(), n, dim, coef.data(), intercept.data(),
                                             classes, temperature, out.data(), isa);
            finite = status == edgetl::Status::kOk;
            if (first.empty()) first = out;
            CHECK(!finite || first == out);
        }
        return first;
    }
};

LinearHead random_head(check::Random& random, std::int64_t n, std::int64_t dim,
                       std::int64_t classes) {
    LinearHead head{n, dim, classes, 0.25 + 2 * random.unit(), {}, {}, {}};
    for (std::int64_t i = 0; i < n * dim; ++i)
        head.features.push_back(static_cast<float>(4 * random.unit() - 2));
    for (std::int64_t i = 0; i < classes * dim; ++i) head.coef.push_back(2 * random.unit() - 1);
    for (std::int64_t i = 0; i < classes; ++i) head.intercept.push_back(6 * random.unit() - 3);
    return head;
}

std::vector<long double> plain_probabilities(const LinearHead& head, std::int64_t row) {
    std::vector<long double> result;
    for (std::int64_t c = 0; c < head.classes; ++c) {
        long double score = head.intercept[c];
        for (std::int64_t i = 0; i < head.dim; ++i)
            score += static_cast<long double>(head.features[row * head.dim + i]) *
                     head.coef[c * head.dim + i];
        result.push_back(score / head.temperature);
    }
    const long double largest = *std::max_element(result.begin(), result.end());
    long double sum = 0;
    for (long double& value : result) sum += value = std::exp(value - largest);
    for (long double& value : result) value /= sum;
    return result;
}

}  // namespace

TEST(linear_probabilities_are_the_softmax_of_the_scores) {
    check::Random random(1);
    for (const std::int64_t dim : {1, 2, 7, 8, 9, 31, 64, 1281})
        for (const std::int64_t classes : {1, 2, 3, 17}) {
            const LinearHead head = random_head(random, 3, dim, classes);
            bool finite = false;
            const std::vector<double> actual = head.probabilities(finite);
            CHECK(finite);
            for (std::int64_t row = 0; row < head.n; ++row) {
                const std::vector<long double> expected = plain_probabilities(head, row);
                for (std::int64_t c = 0; c < classes; ++c) {
                    const auto wanted = static_cast<double>(expected[c]);
                    CHECK(std::abs(actual[row * classes + c] - wanted) <= 1e-11 * wanted + 1e-300);
                }
            }
        }
}

TEST(linear_probabilities_do_not_overflow_on_large_scores) {
    const LinearHead head{1, 1, 2, 1e-3, {1000.0f}, {1.0, -1.0}, {0.0, 0.0}};
    bool finite = false;
    const std::vector<double> actual = head.probabilities(finite);
    CHECK(finite);
    CHECK_EQUAL(actual[0], 1.0, "");
    CHECK_EQUAL(actual[1], 0.0, "");
}

TEST(linear_probabilities_notice_what_is_not_finite) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    check::Random random(2);
    for (const float bad : {kInfinity, -kInfinity, kNan})
        for (std::int64_t at = 0; at < 2 * 11; ++at) {
            LinearHead head = random_head(random, 2, 11, 3);
            head.features[at] = bad;
            bool finite = true;
            head.probabilities(finite);
            CHECK_EQUAL(finite, false, "feature " + std::to_string(at));
            // A weight of zero must not hide it.
            head.coef.assign(head.coef.size(), 0.0);
            finite = true;
            head.probabilities(finite);
            CHECK_EQUAL(finite, false, "zero weights, feature " + std::to_string(at));
        }
    LinearHead head = random_head(random, 1, 4, 2);
    head.intercept[1] = std::numeric_limits<double>::infinity();
    bool finite = true;
    head.probabilities(finite);
    CHECK(!finite);
}

TEST(linear_probabilities_of_no_samples_write_nothing) {
    double guard = 7.0;
    const double none[8] = {};
    CHECK(edgetl::linear_probabilities(nullptr, 0, 4, none, none, 2, 1.0, &guard,
                                       edgetl::best_isa()) == edgetl::Status::kOk);
    CHECK_EQUAL(guard, 7.0, "");
}

TEST(cosines_are_those_of_the_definition) {
    check::Random random(3);
    for (const std::int64_t dim : {1, 7, 8, 33, 260})
        for (const bool centred : {false, true}) {
            const std::int64_t n = 3, m = 5;
            const LinearHead head = random_head(random, n, dim, m);
            std::vector<double> middle(static_cast<std::size_t>(dim));
            for (double& value : middle) value = centred ? random.unit() : 0.0;
            std::vector<double> first;
            for (const edgetl::Isa isa : edgetl::kIsas) {
                if (!edgetl::has_isa(isa)) continue;
                std::vector<double> out(static_cast<std::size_t>(n * m)), scratch(dim + m);
                const auto status = edgetl::cosine(head.features.data(), n, dim, head.coef.data(),
                                                   m, centred ? middle.data() : nullptr,
                                                   scratch.data(), out.data(), isa);
                CHECK(status == edgetl::Status::kOk);
                if (first.empty()) first = out;
                CHECK(first == out);
            }
            for (std::int64_t i = 0; i < n; ++i)
                for (std::int64_t r = 0; r < m; ++r) {
                    long double xy = 0, xx = 0, yy = 0;
                    for (std::int64_t d = 0; d < dim; ++d) {
                        const long double x =
                            head.features[i * dim + d] - static_cast<long double>(middle[d]);
                        const long double y =
                            static_cast<long double>(head.coef[r * dim + d]) - middle[d];
                        xy += x * y;
                        xx += x * x;
                        yy += y * y;
                    }
                    const auto expected = static_cast<double>(xy / std::sqrt(xx * yy));
                    CHECK(std::abs(first[i * m + r] - expected) <= 1e-13);
                }
        }
}

TEST(the_nearest_are_the_first_of_a_sorted_list) {
    check::Random random(4);
    for (const std::int64_t dim : {1, 15, 16, 17, 300})
        for (const std::int64_t m : {1, 3, 4, 9})
            for (const edgetl::Isa isa : edgetl::kIsas) {
                if (!edgetl::has_isa(isa)) continue;
                const std::int64_t n = 2;
                LinearHead head = random_head(random, n, dim, 1);
                std::vector<float> rows;
                for (std::int64_t i = 0; i < m * dim; ++i)
                    rows.push_back(static_cast<float>(random.between(-2, 2)));
                std::vector<std::int64_t> indices(n * m);
                std::vector<double> found(n * m);
                std::vector<float> scratch(n * dim);
                CHECK(edgetl::nearest(head.features.data(), n, dim, rows.data(), m, m,
                                      scratch.data(), indices.data(), found.data(),
                                      isa) == edgetl::Status::kOk);
                for (std::int64_t i = 0; i < n; ++i) {
                    std::vector<bool> seen(m, false);
                    for (std::int64_t k = 0; k < m; ++k) {
                        const std::int64_t at = indices[i * m + k];
                        CHECK(at >= 0 && at < m && !seen[at]);
                        seen[at] = true;
                        long double xy = 0, xx = 0, sizes = 0;
                        for (std::int64_t d = 0; d < dim; ++d) {
                            const long double x = head.features[i * dim + d];
                            xy += x * rows[at * dim + d];
                            sizes += std::abs(x * rows[at * dim + d]);
                            xx += x * x;
                        }
                        const long double error = found[i * m + k] - xy / std::sqrt(xx);
                        CHECK(std::abs(error) <= 4e-6L * sizes / std::sqrt(xx));
                        if (k == 0) continue;
                        const double before = found[i * m + k - 1], now = found[i * m + k];
                        CHECK(before > now || (before == now && indices[i * m + k - 1] < at));
                    }
                }
            }
}

// Additions, products, quotients and roots are IEEE 754's, and their order is fixed; so is the
// exponential.
TEST(scores_have_the_same_bits_on_every_machine) {
    check::Random random(5);
    const LinearHead head = random_head(random, 4, 150, 13);
    bool finite = false;
    std::vector<double> all = head.probabilities(finite);
    std::vector<double> out(4 * 13), scratch(150 + 13);
    edgetl::cosine(head.features.data(), 4, 150, head.coef.data(), 13, head.coef.data(),
                   scratch.data(), out.data(), edgetl::best_isa());
    all.insert(all.end(), out.begin(), out.end());
    const std::vector<float> rows(head.coef.begin(), head.coef.end());
    std::vector<float> queries(4 * 150);
    std::vector<std::int64_t> indices(4 * 13);
    edgetl::nearest(head.features.data(), 4, 150, rows.data(), 13, 13, queries.data(),
                    indices.data(), out.data(), edgetl::best_isa());
    all.insert(all.end(), out.begin(), out.end());
    CHECK_EQUAL(check::fnv1a(all.data(), all.size() * sizeof(double)),
                std::uint64_t{14599817314920268458u}, "");
}
