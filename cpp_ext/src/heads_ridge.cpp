// Recursive least squares with an unpenalised intercept; see edgetl/heads.h.
//
// The features are seen from their running mean, as in the batch solution: a sample x of weight w
// changes the scatter by one term of rank one, of weight w W / (W + w) along x minus the mean
// before, where W is the total weight before (B. P. Welford, Technometrics 4(3), 1962). Only the
// lower triangle of the inverse is kept, so it stays symmetric whatever rounding does.
#include <cmath>
#include <cstdint>

#include "edgetl/heads.h"
#include "lanes.h"
#include "packed.h"

namespace edgetl {
namespace {

// Of a sample's leverage this much must be left when it is taken away; less is rounding error.
constexpr double kLeastLeft = 1e-10;

// coef += scale errors gain^T, where the errors are those before the update.
struct Learn {
    template <int kWidth>
    static EDGETL_INLINE bool run(const RidgeState& state, std::int64_t dim, std::int64_t classes,
                                  const double* step, const double* gain, const double* targets,
                                  double scale) {
        for (std::int64_t c = 0; c < classes; ++c) {
            double* coef = state.coef + c * dim;
            double known = 0;
            dots<kWidth, 1>(coef, step, dim, dim, &known);
            const double error = scale * ((targets[c] - state.target_mean[c]) - known);
            for (std::int64_t j = 0; j < dim; ++j) coef[j] += error * gain[j];
        }
        return true;
    }
};

struct Finish {
    template <int kWidth>
    static EDGETL_INLINE bool run(const RidgeState& state, std::int64_t dim, std::int64_t classes) {
        for (std::int64_t c = 0; c < classes; ++c) {
            double at_mean = 0;
            dots<kWidth, 1>(state.coef + c * dim, state.mean, dim, dim, &at_mean);
            state.intercept[c] = state.target_mean[c] - at_mean;
        }
        return true;
    }
};

// Moves the means towards a sample by its share of the new total.
void move_means(const RidgeState& state, std::int64_t dim, std::int64_t classes, const float* x,
                const double* targets, double share) {
    for (std::int64_t j = 0; j < dim; ++j)
        state.mean[j] += share * (static_cast<double>(x[j]) - state.mean[j]);
    for (std::int64_t c = 0; c < classes; ++c)
        state.target_mean[c] += share * (targets[c] - state.target_mean[c]);
}

}  // namespace

Status ridge_update(const RidgeState& state, std::int64_t dim, std::int64_t classes, const float* x,
                    const double* targets, double weight, double* scratch, Isa isa) {
    double check = weight * 0.0 + *state.total * 0.0;
    for (std::int64_t j = 0; j < dim; ++j) check += static_cast<double>(x[j]) * 0.0;
    for (std::int64_t c = 0; c < classes; ++c) check += targets[c] * 0.0;
    if (check != 0) return Status::kNotFinite;
    const double before = *state.total, after = before + weight;
    if (weight == 0 || before < 0) return Status::kRefused;
    if (weight < 0 && !(after > kLeastLeft * before)) return Status::kRefused;

    double *step = scratch, *gain = scratch + dim;
    for (std::int64_t j = 0; j < dim; ++j) step[j] = static_cast<double>(x[j]) - state.mean[j];
    // The same formula for both signs of the weight; the first sample only sets the means.
    const double effective = weight * before / after;
    if (before > 0) {
        double leverage = 0;
        dispatch<PackedMultiply>(isa, static_cast<const double*>(state.inverse),
                                 static_cast<const double*>(step), dim, gain, &leverage);
        const double left = 1 + effective * leverage;
        if (!std::isfinite(left)) return Status::kNotFinite;
        if (!(left > kLeastLeft)) return Status::kRefused;
        const double scale = effective / left;
        dispatch<Learn>(isa, state, dim, classes, static_cast<const double*>(step),
                        static_cast<const double*>(gain), targets, scale);
        dispatch<PackedCorrect>(isa, static_cast<const double*>(state.inverse),
                                static_cast<const double*>(gain), dim, scale, state.inverse);
    }
    move_means(state, dim, classes, x, targets, weight / after);
    *state.total = after;
    dispatch<Finish>(isa, state, dim, classes);
    return Status::kOk;
}

}  // namespace edgetl
