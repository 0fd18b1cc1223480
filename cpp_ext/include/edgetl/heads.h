// The arithmetic of small heads on a device: plain pointers and sizes, no Python, nothing
// allocated.
//
// Made for a few samples at a time, where one call costs less than an array library's way of a
// dozen; for large batches a BLAS is faster. All arrays are without gaps, rows one after the other.
// Sums are taken in double (those of `nearest` partly in float), in an order that depends on the
// sizes alone and without fused products: x86 and ARM and all their instruction sets give the same
// bits, but for a log loss. An output may not overlap an input unless said so. `scratch` is memory
// of the caller's whose content means nothing before and after.
#pragma once

#include <cstdint>

#include "edgetl/preprocess.h"  // Isa

namespace edgetl {

enum class Status {
    kOk = 0,
    kNotFinite = 1,  // an input or a result is NaN, infinite or beyond range
    kRefused = 2     // the update has no meaning; nothing was changed
};

// ---- heads_scores.cpp: linear heads ----

// features * coef^T + intercept to `out` (n, classes). features: (n, dim); coef: (classes, dim);
// intercept: (classes).
Status linear_scores(const float* features, std::int64_t n, std::int64_t dim, const double* coef,
                     const double* intercept, std::int64_t classes, double* out, Isa isa);
// The same with coefficients as a bundle stores them; half the memory to read, the same result as
// with the coefficients widened to double.
Status linear_scores(const float* features, std::int64_t n, std::int64_t dim, const float* coef,
                     const double* intercept, std::int64_t classes, double* out, Isa isa);

// softmax(scores / temperature) of each row of (n, classes); the temperature is positive. `out` may
// be `scores` itself. Relative error of a probability below 1e-14 times one plus the size of the
// row's largest score over the temperature; smaller than 1e-307 becomes 0.
Status softmax(const double* scores, std::int64_t n, std::int64_t classes, double temperature,
               double* out, Isa isa);

// linear_scores and softmax in one.
Status linear_probabilities(const float* features, std::int64_t n, std::int64_t dim,
                            const double* coef, const double* intercept, std::int64_t classes,
                            double temperature, double* out, Isa isa);
Status linear_probabilities(const float* features, std::int64_t n, std::int64_t dim,
                            const float* coef, const double* intercept, std::int64_t classes,
                            double temperature, double* out, Isa isa);

// ---- heads_cosine.cpp: prototypes and nearest neighbours ----

// Cosines of features (n, dim) with rows (m, dim), both seen from `middle` (dim; null: from the
// origin), to `out` (n, m). With a vector of zeros it is 0. scratch: dim + m. Vectors of a length
// beyond 1e-140 to 1e140 count as not finite, except for zeros.
Status cosine(const float* features, std::int64_t n, std::int64_t dim, const double* rows,
              std::int64_t m, const double* middle, double* scratch, double* out, Isa isa);

// For each of features (n, dim), the k of rows (m, dim) with the largest dot product with the
// feature divided by its norm; where the rows have norm 1 those are cosines. Best first, and of
// equals the lowest index first. The unit feature is rounded to float32; a product is within 2^-19
// times the sum of its terms' sizes. indices, similarities: (n, k), k at most m; scratch: n dim.
Status nearest(const float* features, std::int64_t n, std::int64_t dim, const float* rows,
               std::int64_t m, std::int64_t k, float* scratch, std::int64_t* indices,
               double* similarities, Isa isa);

// The k largest of each row of `values` (n, m), with the order of `nearest`.
Status largest(const double* values, std::int64_t n, std::int64_t m, std::int64_t k,
               std::int64_t* indices, double* found);
Status largest(const float* values, std::int64_t n, std::int64_t m, std::int64_t k,
               std::int64_t* indices, float* found);

// ---- heads_ridge.cpp: recursive least squares ----

// A ridge regression with an unpenalised intercept, as its sufficient statistics: the solution of
// min sum_i w_i |targets_i - coef x_i - intercept|^2 + alpha |coef|^2 over all samples so far.
struct RidgeState {
    double* inverse;      // (dim (dim + 1) / 2) lower triangle, row by row, of (S + alpha I)^-1,
                          // where S is the scatter of the features around `mean`
    double* coef;         // (classes, dim)
    double* intercept;    // (classes)
    double* mean;         // (dim) weighted mean of the features
    double* target_mean;  // (classes) likewise of the targets
    double* total;        // (1) sum of the weights; 0 before the first sample
};

// Adds a sample x (dim) with its targets (classes) and a positive weight, or with a negative weight
// takes away one that was added with its opposite: O(dim^2 + dim classes) by the formula of Sherman
// and Morrison (Ann. Math. Statist. 21(1), 1950). scratch: 2 dim. kRefused if the sample can't have
// been among those that are in (then the matrix without it would not be positive definite), or is
// the last one.
Status ridge_update(const RidgeState& state, std::int64_t dim, std::int64_t classes, const float* x,
                    const double* targets, double weight, double* scratch, Isa isa);

// ---- heads_lda.cpp: a scatter that grows, seen through its resolvent ----

// matrix * vector of each of `vectors` (n, dim) to `out` (n, dim); matrix: (dim (dim + 1) / 2)
// lower triangle, row by row, of a symmetric one.
Status packed_multiply(const double* matrix, std::int64_t dim, const double* vectors,
                       std::int64_t n, double* out, Isa isa);

// inverse: the lower triangle of P = (S + I)^-1; powers: (orders, classes, dim) of P^1 M, P^2 M,
// ... for M (classes, dim), both changed to what they are with S + z z^T for S and M + shift z^T
// for M: O(orders dim^2 + orders^2 dim classes). z: (dim); shift: (classes); scratch: orders dim +
// orders classes; orders from 1 on. kRefused if the inverse is not positive definite. Anything but
// kOk: nothing was changed. With `before`, that is the inverse to start from, which stays as it is,
// and `inverse` is only written.
Status resolvent_update(double* inverse, double* powers, std::int64_t orders, std::int64_t classes,
                        std::int64_t dim, const double* z, const double* shift, double* scratch,
                        Isa isa, const double* before = nullptr);

// ---- heads_sgd.cpp: softmax regression ----

struct SgdStep {
    double rate;      // learning rate
    double l2;        // the loss has l2 / 2 |coef|^2; the intercept is not penalised
    double momentum;  // 0: none, and no velocities needed
};

// One step of stochastic gradient descent on the weighted mean log loss of a batch:
// velocity = momentum velocity + gradient; parameter -= rate velocity. features: (n, dim); codes:
// (n) in 0 .. classes - 1, which is not checked; weights: (n) not negative, or null for ones; coef,
// coef_velocity: (classes, dim); intercept, intercept_velocity: (classes); scratch: n classes.
// Writes the mean log loss before the step to `loss`. Anything but kOk: nothing was changed.
Status softmax_step(const float* features, const std::int64_t* codes, const double* weights,
                    std::int64_t n, std::int64_t dim, std::int64_t classes, const SgdStep& step,
                    double* coef, double* intercept, double* coef_velocity,
                    double* intercept_velocity, double* scratch, double* loss, Isa isa);

// ---- heads_descent.cpp: softmax regression, rehearsed ----

// What a rehearsal does not choose itself; edgetl/native/reference_descent.py has the reasons.
struct DescentPlan {
    std::int64_t batch;  // samples of a step at most
    double spread;       // what the mean square of the scaled features is made
    double rate;         // longest step
    double momentum;
    double settled;             // steps in which the penalty settles
    double averaged;            // share of the newest point in the average
    double weakest, strongest;  // bounds of the inverse strength of the penalty
};

// coef of each: (classes, dim); intercept of each: (classes).
struct DescentState {
    float *coef, *intercept;
    float *coef_speed, *intercept_speed;
    float *coef_average, *intercept_average;
};

// How many numbers `singles` and `doubles` of softmax_descent must have room for.
struct DescentScratch {
    std::int64_t singles, doubles;
};
DescentScratch descent_scratch(std::int64_t n, std::int64_t dim, std::int64_t classes,
                               std::int64_t batch);

// Steps of descent with momentum and averaging on features seen from their mean, one for every
// `batch` samples in their order: O(n dim classes). features: (n, dim); codes: (n) in 0 ..
// classes - 1, which is not checked; weights: (n) positive. Changes the state; writes the mean
// (dim) and the inverse strength of the penalty. Sums over a part's samples are float32. kRefused
// if float32 has too few digits for the samples or what follows from them, above all if they are
// all alike: the state is as it was. kNotFinite: the state is lost.
Status softmax_descent(const float* features, const std::int64_t* codes, const double* weights,
                       std::int64_t n, std::int64_t dim, std::int64_t classes,
                       const DescentPlan& plan, const DescentState& state, float* mean,
                       float* singles, double* doubles, double* strength, Isa isa);

}  // namespace edgetl
