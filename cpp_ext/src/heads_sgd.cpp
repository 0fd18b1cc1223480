// One step of stochastic gradient descent for softmax regression; see edgetl/heads.h.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "edgetl/heads.h"
#include "softmax.h"

namespace edgetl {
namespace {

// Coefficients whose gradient is summed up at once, in memory that stays in the nearest cache.
constexpr std::int64_t kPiece = 256;

// Scores (n, classes) become the loss's derivatives by them; adds up the weighted log losses.
struct Residuals {
    template <int kWidth>
    static EDGETL_INLINE bool run(double* scores, const std::int64_t* codes, const double* weights,
                                  std::int64_t n, std::int64_t classes, double total,
                                  double* loss) {
        *loss = 0;
        for (std::int64_t i = 0; i < n; ++i, scores += classes) {
            const double own = scores[codes[i]], weight = (weights ? weights[i] : 1.0) / total;
            double top = 0, sum = 0;
            if (!exponentials<kWidth>(scores, classes, 1.0, scores, &top, &sum)) return false;
            *loss += weight * (std::log(sum) - (own - top));
            const double factor = weight / sum;
            for (std::int64_t c = 0; c < classes; ++c) scores[c] *= factor;
            scores[codes[i]] -= weight;
        }
        return std::isfinite(*loss);
    }
};

// gradient += residual * sample, of kCount samples one after the other.
template <int kWidth, int kCount>
EDGETL_INLINE void add_samples(const float* x, std::int64_t dim, const double* residuals,
                               std::int64_t classes, std::int64_t count, double* gradient) {
    std::int64_t j = 0;
    for (; j + kLanes <= count; j += kLanes) {
        Eight<kWidth> sum, value;
        sum.load(gradient + j);
        for (std::int64_t i = 0; i < kCount; ++i) {
            value.load(x + i * dim + j);
            sum.add_product(value, residuals[i * classes]);
        }
        sum.store(gradient + j);
    }
    for (; j < count; ++j)
        for (std::int64_t i = 0; i < kCount; ++i)
            gradient[j] += static_cast<double>(x[i * dim + j]) * residuals[i * classes];
}

struct Descend {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* features, const double* residuals, std::int64_t n,
                                  std::int64_t dim, std::int64_t classes, const SgdStep& step,
                                  double* coef, double* velocity) {
        double gradient[kPiece];
        for (std::int64_t c = 0; c < classes; ++c)
            for (std::int64_t start = 0; start < dim; start += kPiece) {
                const std::int64_t count = std::min(kPiece, dim - start);
                double* own = coef + c * dim + start;
                for (std::int64_t j = 0; j < count; ++j) gradient[j] = step.l2 * own[j];
                std::int64_t i = 0;
                for (; i + 4 <= n; i += 4)
                    add_samples<kWidth, 4>(features + i * dim + start, dim,
                                           residuals + i * classes + c, classes, count, gradient);
                for (; i < n; ++i)
                    add_samples<kWidth, 1>(features + i * dim + start, dim,
                                           residuals + i * classes + c, classes, count, gradient);
                if (velocity) {
                    double* moving = velocity + c * dim + start;
                    for (std::int64_t j = 0; j < count; ++j) {
                        moving[j] = step.momentum * moving[j] + gradient[j];
                        own[j] -= step.rate * moving[j];
                    }
                } else {
                    for (std::int64_t j = 0; j < count; ++j) own[j] -= step.rate * gradient[j];
                }
            }
        return true;
    }
};

void move_intercept(const double* residuals, std::int64_t n, std::int64_t classes,
                    const SgdStep& step, double* intercept, double* velocity) {
    for (std::int64_t c = 0; c < classes; ++c) {
        double gradient = 0;
        for (std::int64_t i = 0; i < n; ++i) gradient += residuals[i * classes + c];
        if (velocity) gradient = velocity[c] = step.momentum * velocity[c] + gradient;
        intercept[c] -= step.rate * gradient;
    }
}

}  // namespace

Status softmax_step(const float* features, const std::int64_t* codes, const double* weights,
                    std::int64_t n, std::int64_t dim, std::int64_t classes, const SgdStep& step,
                    double* coef, double* intercept, double* coef_velocity,
                    double* intercept_velocity, double* scratch, double* loss, Isa isa) {
    double total = weights ? 0.0 : static_cast<double>(n);
    for (std::int64_t i = 0; weights && i < n; ++i) total += weights[i];
    if (!std::isfinite(total)) return Status::kNotFinite;
    if (!(total > 0)) return Status::kRefused;
    const double* known = coef;
    const Status status = linear_scores(features, n, dim, known, intercept, classes, scratch, isa);
    if (status != Status::kOk) return status;
    double mean = 0;
    if (!dispatch<Residuals>(isa, scratch, codes, weights, n, classes, total, &mean))
        return Status::kNotFinite;
    const bool moving = step.momentum != 0;
    const double* residuals = scratch;
    dispatch<Descend>(isa, features, residuals, n, dim, classes, step, coef,
                      moving ? coef_velocity : nullptr);
    move_intercept(residuals, n, classes, step, intercept, moving ? intercept_velocity : nullptr);
    *loss = mean;
    return Status::kOk;
}

}  // namespace edgetl
