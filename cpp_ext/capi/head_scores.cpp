// Probabilities of all kinds of heads, by the kernels of edgetl/heads.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "boundary.h"
#include "edgetl/heads.h"
#include "head.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kQueries = 64;  // worked on at a time: what is allocated does not grow

std::int64_t signed_of(std::size_t value) {
    return static_cast<std::int64_t>(value);
}

Status linear(const edgetl_head& head, const float* features, std::size_t n, double* out) {
    const auto rows = signed_of(n), dim = signed_of(head.features);
    const auto classes = signed_of(head.classes);
    if (!head.narrow.empty())
        return linear_probabilities(features, rows, dim, head.narrow.data(), head.intercept.data(),
                                    classes, head.temperature, out, best_isa());
    return linear_probabilities(features, rows, dim, head.wide.data(), head.intercept.data(),
                                classes, head.temperature, out, best_isa());
}

Status prototypes(const edgetl_head& head, const float* features, std::size_t n, double* out) {
    const auto rows = signed_of(n), dim = signed_of(head.features);
    const auto classes = signed_of(head.classes);
    std::vector<double> scratch(head.features + head.classes);
    const double* middle = head.center ? head.middle.data() : nullptr;
    const Status status = cosine(features, rows, dim, head.means.data(), classes, middle,
                                 scratch.data(), out, best_isa());
    if (status != Status::kOk) return status;
    for (std::size_t i = 0; i < n * head.classes; ++i) out[i] *= head.scale;
    return softmax(out, rows, classes, head.temperature, out, best_isa());
}

// Logarithms of the shares of the votes, smoothed by one vote spread over all classes.
void vote(const edgetl_head& head, const std::int64_t* found, std::size_t k, double* out) {
    std::fill(out, out + head.classes, 0.0);
    for (std::size_t i = 0; i < k; ++i) {
        const auto row = static_cast<std::size_t>(found[i]);
        out[head.codes[row]] += head.weights[row];
    }
    double sum = 0;
    for (std::size_t c = 0; c < head.classes; ++c) sum += out[c];
    const double spread = 1 / static_cast<double>(head.classes);
    for (std::size_t c = 0; c < head.classes; ++c) out[c] = std::log((out[c] + spread) / (sum + 1));
}

Status neighbours(const edgetl_head& head, const float* features, std::size_t n, double* out) {
    const std::size_t kept = head.codes.size(), dim = head.features;
    const std::size_t k =
        static_cast<std::uint64_t>(head.k) < kept ? static_cast<std::size_t>(head.k) : kept;
    const std::size_t block = std::min(n, kQueries);
    std::vector<float> scratch(block * dim);
    std::vector<std::int64_t> found(block * k);
    std::vector<double> similarities(block * k);
    for (std::size_t start = 0; start < n; start += block) {
        const std::size_t count = std::min(block, n - start);
        const Status status =
            nearest(features + start * dim, signed_of(count), signed_of(dim),
                    head.neighbours.data(), signed_of(kept), signed_of(k), scratch.data(),
                    found.data(), similarities.data(), best_isa());
        if (status != Status::kOk) return status;
        for (std::size_t i = 0; i < count; ++i)
            vote(head, found.data() + i * k, k, out + (start + i) * head.classes);
    }
    return softmax(out, signed_of(n), signed_of(head.classes), head.temperature, out, best_isa());
}

}  // namespace

void finish(edgetl_head& head) {
    if (head.kind != EDGETL_PROTOTYPE || !head.center) return;
    head.middle.assign(head.features, 0.0);
    for (std::size_t c = 0; c < head.classes; ++c)
        for (std::size_t i = 0; i < head.features; ++i)
            head.middle[i] += head.means[c * head.features + i];
    for (double& value : head.middle) value /= static_cast<double>(head.classes);
}

void check_features(const edgetl_head& head, const float* features, std::size_t n,
                    std::size_t dim) {
    if (dim != head.features)
        refuse("features have " + std::to_string(dim) + " values, the head takes " +
               std::to_string(head.features));
    if (n == 0) return;
    if (features == nullptr) refuse("features is NULL");
    // Divided, since the product may be beyond any number.
    if (n > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / 8 / dim)
        refuse(std::to_string(n) + " samples are more than addresses reach");
}

void score(const edgetl_head& head, const float* features, std::size_t n, double* out) {
    Status status = Status::kOk;
    if (head.kind == EDGETL_PROTOTYPE)
        status = prototypes(head, features, n, out);
    else if (head.kind == EDGETL_KNN)
        status = neighbours(head, features, n, out);
    else
        status = linear(head, features, n, out);
    if (status != Status::kOk)
        throw Failure(EDGETL_NOT_FINITE,
                      "a feature is NaN or infinite, or a score is beyond range");
}

}  // namespace edgetl::capi
