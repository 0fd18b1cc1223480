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

    std::vector<double> probabilities(bool& finite) const {
        std::vector<double> out(static_cast<std::size_t>(n * classes), -1.0);
        finite = edgetl::linear_probabilities(features.data(), n, dim, coef.data(),
                                              intercept.data(), classes, temperature, out.data());
        return out;
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
    CHECK(edgetl::linear_probabilities(nullptr, 0, 4, nullptr, nullptr, 2, 1.0, &guard));
    CHECK_EQUAL(guard, 7.0, "");
}
