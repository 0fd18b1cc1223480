// Averaged gradient descent for softmax regression, a whole rehearsal at once; see edgetl/heads.h.
//
// Coefficients stay on the features' own scale, on which a step divides by the square of what would
// make them of one size; only the intercepts are moved, to the mean of the samples and back.
// Rows and coefficients are float32 as they are stored, a score's and a mean's sums are double.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "edgetl/heads.h"
#include "singles.h"
#include "softmax.h"

namespace edgetl {
namespace {

// Means summed up at once, in memory that stays in the nearest cache.
constexpr std::int64_t kPiece = 256;

// Between rows: a multiple of a vector, and of no power of two that would have rows share the same
// places of a cache.
std::int64_t stride_of(std::int64_t dim) {
    return (dim + kSingles - 1) / kSingles * kSingles + kSingles;
}

// As few parts of alike size as have up to `batch` samples.
struct Parts {
    std::int64_t n, count;

    Parts(std::int64_t samples, std::int64_t batch)
        : n(samples), count((samples + batch - 1) / batch) {}
    std::int64_t start(std::int64_t part) const { return n * part / count; }
};

// The weighted mean of the samples, the rows minus it to `rows`, and the squares of these; false if
// float32 won't do for them.
struct Centre {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* features, const double* shares, std::int64_t n,
                                  std::int64_t dim, float* mean, float* rows, double* squares) {
        double sums[kPiece];
        for (std::int64_t start = 0; start < dim; start += kPiece) {
            const std::int64_t count = std::min(kPiece, dim - start);
            for (std::int64_t j = 0; j < count; ++j) sums[j] = 0;
            for (std::int64_t i = 0; i < n; ++i) {
                const float* x = features + i * dim + start;
                for (std::int64_t j = 0; j < count; ++j)
                    sums[j] += static_cast<double>(x[j]) * shares[i];
            }
            for (std::int64_t j = 0; j < count; ++j) mean[start + j] = static_cast<float>(sums[j]);
        }
        const std::int64_t stride = stride_of(dim);
        double all = 0, shared = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            float* row = rows + i * stride;
            for (std::int64_t j = 0; j < dim; ++j) row[j] = features[i * dim + j] - mean[j];
            for (std::int64_t j = dim; j < stride; ++j) row[j] = 0;
            single_dots<kWidth, 1>(row, row, dim, squares + i);
            all += squares[i];
        }
        single_dots<kWidth, 1>(mean, mean, dim, &shared);
        const double spread = all / static_cast<double>(n);
        return spread > 1e-25 && spread > 1e-10 * shared && spread < 1e25;
    }
};

// What all steps have in common.
struct Pace {
    float rate, l2, momentum, averaged;
};

struct Coefficients {
    float *point, *speed, *average;

    EDGETL_INLINE Coefficients from(std::int64_t place) const {
        return {point + place, speed + place, average + place};
    }
};

// Sixteen coefficients of kClasses classes, `dim` apart.
template <int kWidth, int kClasses>
EDGETL_INLINE void move_lanes(const float* x, std::int64_t stride, std::int64_t count,
                              const float* residuals, std::int64_t classes, const Pace& pace,
                              const Coefficients& at, std::int64_t dim) {
    using Sixteen = Singles<kSingles, 2 * kWidth>;
    Sixteen gradient[kClasses], value;
    for (int c = 0; c < kClasses; ++c) gradient[c].zero();
    for (std::int64_t i = 0; i < count; ++i) {
        value.load(x + i * stride);
        for (int c = 0; c < kClasses; ++c)
            gradient[c].add_product(value, residuals[i * classes + c]);
    }
    for (int c = 0; c < kClasses; ++c) {
        const Coefficients own = at.from(c * dim);
        Sixteen point, speed, average;
        point.load(own.point);
        speed.load(own.speed);
        average.load(own.average);
        gradient[c].add_product(point, pace.l2);
        gradient[c].add_product(speed, pace.momentum);
        gradient[c].store(own.speed);
        point.add_product(gradient[c], -pace.rate);
        point.store(own.point);
        value = point;
        value.subtract(average);
        average.add_product(value, pace.averaged);
        average.store(own.average);
    }
}

template <int kWidth, int kClasses>
EDGETL_INLINE void move_classes(const float* rows, std::int64_t count, std::int64_t dim,
                                const float* residuals, std::int64_t classes, const Pace& pace,
                                const Coefficients& own) {
    const std::int64_t stride = stride_of(dim);
    std::int64_t j = 0;
    for (; j + kSingles <= dim; j += kSingles)
        move_lanes<kWidth, kClasses>(rows + j, stride, count, residuals, classes, pace, own.from(j),
                                     dim);
    if (j == dim) return;
    float rest[3][kClasses * kSingles] = {};
    const Coefficients last{rest[0], rest[1], rest[2]}, from = own.from(j);
    for (std::int64_t c = 0; c < kClasses; ++c) {
        std::copy_n(from.point + c * dim, dim - j, last.point + c * kSingles);
        std::copy_n(from.speed + c * dim, dim - j, last.speed + c * kSingles);
        std::copy_n(from.average + c * dim, dim - j, last.average + c * kSingles);
    }
    move_lanes<kWidth, kClasses>(rows + j, stride, count, residuals, classes, pace, last, kSingles);
    for (std::int64_t c = 0; c < kClasses; ++c) {
        std::copy_n(last.point + c * kSingles, dim - j, from.point + c * dim);
        std::copy_n(last.speed + c * kSingles, dim - j, from.speed + c * dim);
        std::copy_n(last.average + c * kSingles, dim - j, from.average + c * dim);
    }
}

// Of samples whose scores without intercepts are in `scores`: the loss's derivatives by them, times
// `scale` to `residuals`; moves the intercepts (three times `classes`) by them.
template <int kWidth>
EDGETL_INLINE bool move_intercepts(double* scores, const std::int64_t* codes, const double* shares,
                                   std::int64_t count, std::int64_t classes, double heavier,
                                   double scale, const DescentPlan& plan, double rate,
                                   double* intercepts, float* residuals) {
    double *point = intercepts, *speed = point + classes, *average = speed + classes;
    for (std::int64_t c = 0; c < classes; ++c) speed[c] *= plan.momentum;
    for (std::int64_t i = 0; i < count; ++i, scores += classes) {
        for (std::int64_t c = 0; c < classes; ++c) scores[c] += point[c];
        double top = 0, sum = 0;
        if (!exponentials<kWidth>(scores, classes, 1.0, scores, &top, &sum)) return false;
        const double weight = heavier * shares[i], factor = weight / sum;
        for (std::int64_t c = 0; c < classes; ++c) scores[c] *= factor;
        scores[codes[i]] -= weight;
        for (std::int64_t c = 0; c < classes; ++c) {
            speed[c] += scores[c];
            residuals[i * classes + c] = static_cast<float>(scores[c] * scale);
        }
    }
    for (std::int64_t c = 0; c < classes; ++c) {
        point[c] -= rate * speed[c];
        average[c] += plan.averaged * (point[c] - average[c]);
    }
    return true;
}

struct Steps {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* rows, const std::int64_t* codes,
                                  const double* shares, const Parts* parts, std::int64_t dim,
                                  std::int64_t classes, const DescentPlan* plan, double rate,
                                  double l2, double scale, const DescentState* state,
                                  const float* mean, double* intercepts, double* scores,
                                  float* residuals) {
        constexpr int block = kBlock<kWidth>;
        const Coefficients all{state->coef, state->coef_speed, state->coef_average};
        const float* coefs[] = {all.point, all.speed, all.average};
        float* offsets[] = {state->intercept, state->intercept_speed, state->intercept_average};
        for (int pair = 0; pair < 3; ++pair) {
            double* own = intercepts + pair * classes;
            all_dots<kWidth>(mean, coefs[pair], classes, dim, own);
            for (std::int64_t c = 0; c < classes; ++c) own[c] = offsets[pair][c] + own[c];
        }
        const Pace pace{static_cast<float>(rate), static_cast<float>(l2),
                        static_cast<float>(plan->momentum), static_cast<float>(plan->averaged)};
        const std::int64_t stride = stride_of(dim);
        for (std::int64_t part = 0; part < parts->count; ++part) {
            const std::int64_t start = parts->start(part);
            const std::int64_t count = parts->start(part + 1) - start;
            const float* some = rows + start * stride;
            double sums[block];
            std::int64_t c = 0;
            for (; c + block <= classes; c += block)
                for (std::int64_t i = 0; i < count; ++i) {
                    single_dots<kWidth, block>(some + i * stride, all.point + c * dim, dim, sums);
                    for (int k = 0; k < block; ++k) scores[i * classes + c + k] = sums[k];
                }
            for (; c < classes; ++c)
                for (std::int64_t i = 0; i < count; ++i)
                    single_dots<kWidth, 1>(some + i * stride, all.point + c * dim, dim,
                                           scores + i * classes + c);
            if (!move_intercepts<kWidth>(scores, codes + start, shares + start, count, classes,
                                         static_cast<double>(parts->count), scale, *plan, rate,
                                         intercepts, residuals))
                return false;
            for (c = 0; c + block <= classes; c += block)
                move_classes<kWidth, block>(some, count, dim, residuals + c, classes, pace,
                                            all.from(c * dim));
            for (; c < classes; ++c)
                move_classes<kWidth, 1>(some, count, dim, residuals + c, classes, pace,
                                        all.from(c * dim));
        }
        bool finite = true;
        for (int pair = 0; pair < 3; ++pair) {
            all_dots<kWidth>(mean, coefs[pair], classes, dim, scores);
            for (std::int64_t c = 0; c < classes; ++c) {
                const double moved = intercepts[pair * classes + c] - scores[c];
                offsets[pair][c] = static_cast<float>(moved);
                // Of a coefficient that is not finite neither is the product, whatever the mean.
                finite = finite && std::isfinite(offsets[pair][c]);
            }
        }
        return finite;
    }
};

}  // namespace

DescentScratch descent_scratch(std::int64_t n, std::int64_t dim, std::int64_t classes,
                               std::int64_t batch) {
    return {n * stride_of(dim) + batch * classes, 2 * n + (batch + 3) * classes};
}

Status softmax_descent(const float* features, const std::int64_t* codes, const double* weights,
                       std::int64_t n, std::int64_t dim, std::int64_t classes,
                       const DescentPlan& plan, const DescentState& state, float* mean,
                       float* singles, double* doubles, double* strength, Isa isa) {
    if (n == 0 || classes == 0 || plan.batch < 1) return Status::kRefused;
    float *rows = singles, *residuals = rows + n * stride_of(dim);
    double *shares = doubles, *squares = shares + n, *intercepts = squares + n;
    double* scores = intercepts + 3 * classes;
    double total = 0;
    for (std::int64_t i = 0; i < n; ++i) total += weights[i];
    if (!(total > 0) || !std::isfinite(total)) return Status::kNotFinite;
    for (std::int64_t i = 0; i < n; ++i) shares[i] = weights[i] / total;
    const double* known = shares;
    if (!dispatch<Centre>(isa, features, known, n, dim, mean, rows, squares))
        return Status::kRefused;
    const Parts parts(n, plan.batch);
    double spread = 0, widest = 0;
    for (std::int64_t part = 0; part < parts.count; ++part) {
        double own = 0;
        for (std::int64_t i = parts.start(part); i < parts.start(part + 1); ++i)
            own += shares[i] * squares[i];
        spread += own;
        widest = std::max(widest, own);
    }
    *strength = std::min(std::max(1 / spread, plan.weakest), plan.strongest);
    // The widest part bounds the curvature of each step.
    const double size = widest * static_cast<double>(parts.count) / plan.spread;
    const double l2 = 1 / (*strength * total * size);
    const double settled = std::min(plan.settled, 2 * total);
    const double rate = std::min(plan.rate, (1 - plan.momentum) / (settled * l2));
    // What float32 has no numbers for, or too few.
    if (!(size > 1e-30 && size < 1e30 && l2 < 1e30 && rate > 1e-30)) return Status::kRefused;
    const float *centred = rows, *middle = mean;
    const bool finite =
        dispatch<Steps>(isa, centred, codes, known, &parts, dim, classes, &plan, rate, l2, 1 / size,
                        &state, middle, intercepts, scores, residuals);
    return finite ? Status::kOk : Status::kNotFinite;
}

}  // namespace edgetl
