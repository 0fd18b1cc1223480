// Scores of linear heads and their softmax; see edgetl/heads.h.
#include <cstdint>

#include "edgetl/heads.h"
#include "softmax.h"

namespace edgetl {
namespace {

// A block of coefficients is read once for all samples: it stays in the nearest cache.
template <typename Coef>
struct Scores {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* features, std::int64_t n, std::int64_t dim,
                                  const Coef* coef, const double* intercept, std::int64_t classes,
                                  double* out) {
        constexpr int block = kBlock<kWidth>;
        double sums[block] = {};
        double check = 0;
        std::int64_t c = 0;
        for (; c + block <= classes; c += block)
            for (std::int64_t row = 0; row < n; ++row) {
                dots<kWidth, block>(features + row * dim, coef + c * dim, dim, dim, sums);
                for (int i = 0; i < block; ++i) {
                    out[row * classes + c + i] = sums[i] + intercept[c + i];
                    check += (sums[i] + intercept[c + i]) * 0.0;
                }
            }
        for (; c < classes; ++c)
            for (std::int64_t row = 0; row < n; ++row) {
                dots<kWidth, 1>(features + row * dim, coef + c * dim, dim, dim, sums);
                out[row * classes + c] = sums[0] + intercept[c];
                check += (sums[0] + intercept[c]) * 0.0;
            }
        return check == 0;
    }
};

struct Softmax {
    template <int kWidth>
    static EDGETL_INLINE bool run(const double* scores, std::int64_t n, std::int64_t classes,
                                  double temperature, double* out) {
        for (std::int64_t row = 0; row < n; ++row, scores += classes, out += classes) {
            double top = 0, sum = 0;
            if (!exponentials<kWidth>(scores, classes, temperature, out, &top, &sum)) return false;
            const double share = 1 / sum;
            for (std::int64_t c = 0; c < classes; ++c) out[c] *= share;
        }
        return true;
    }
};

template <typename Coef>
Status scores(const float* features, std::int64_t n, std::int64_t dim, const Coef* coef,
              const double* intercept, std::int64_t classes, double* out, Isa isa) {
    // A weight of zero hides nothing: zero times infinity is not finite either.
    const bool finite =
        dispatch<Scores<Coef>>(isa, features, n, dim, coef, intercept, classes, out);
    return finite ? Status::kOk : Status::kNotFinite;
}

template <typename Coef>
Status probabilities(const float* features, std::int64_t n, std::int64_t dim, const Coef* coef,
                     const double* intercept, std::int64_t classes, double temperature, double* out,
                     Isa isa) {
    const Status status = scores(features, n, dim, coef, intercept, classes, out, isa);
    return status == Status::kOk ? softmax(out, n, classes, temperature, out, isa) : status;
}

}  // namespace

Status linear_scores(const float* features, std::int64_t n, std::int64_t dim, const double* coef,
                     const double* intercept, std::int64_t classes, double* out, Isa isa) {
    return scores(features, n, dim, coef, intercept, classes, out, isa);
}

Status linear_scores(const float* features, std::int64_t n, std::int64_t dim, const float* coef,
                     const double* intercept, std::int64_t classes, double* out, Isa isa) {
    return scores(features, n, dim, coef, intercept, classes, out, isa);
}

Status softmax(const double* scores, std::int64_t n, std::int64_t classes, double temperature,
               double* out, Isa isa) {
    if (classes == 0) return Status::kOk;
    const bool finite = dispatch<Softmax>(isa, scores, n, classes, temperature, out);
    return finite ? Status::kOk : Status::kNotFinite;
}

Status linear_probabilities(const float* features, std::int64_t n, std::int64_t dim,
                            const double* coef, const double* intercept, std::int64_t classes,
                            double temperature, double* out, Isa isa) {
    return probabilities(features, n, dim, coef, intercept, classes, temperature, out, isa);
}

Status linear_probabilities(const float* features, std::int64_t n, std::int64_t dim,
                            const float* coef, const double* intercept, std::int64_t classes,
                            double temperature, double* out, Isa isa) {
    return probabilities(features, n, dim, coef, intercept, classes, temperature, out, isa);
}

}  // namespace edgetl
