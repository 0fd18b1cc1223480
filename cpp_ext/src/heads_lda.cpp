// The resolvent of a growing scatter and its powers times class means; see edgetl/heads.h.
//
// With P' = P - u u^T / s, u = P z and s = 1 + z u, the vectors v_k = P'^k z obey v_1 = u / s and
// v_k = P' v_{k-1}, and P = P' + s v_1 v_1^T. Therefore, with Y_k = P^k M and q_k = Y_k z,
//     P'^k (M + z shift^T) = Y_k + v_k shift^T - sum_{i=1..k} v_i q_{k-i+1}^T:
// every power costs one product of the matrix with a vector, however many classes there are.
#include <cmath>
#include <cstdint>

#include "edgetl/heads.h"
#include "lanes.h"
#include "packed.h"

namespace edgetl {
namespace {

// A positive definite matrix gives a leverage above 0; further below than this is damage.
constexpr double kLeastLeverage = -1e-6;

struct Project {
    template <int kWidth>
    static EDGETL_INLINE bool run(const double* z, const double* powers, std::int64_t rows,
                                  std::int64_t dim, double* out) {
        all_dots<kWidth>(z, powers, rows, dim, out);
        return true;
    }
};

// Y_k += v_k shift^T - sum v_i q_{k-i+1}^T, for every order k. `moves` holds v_1, v_2, ...
struct Renew {
    template <int kWidth>
    static EDGETL_INLINE bool run(double* powers, const double* moves, const double* products,
                                  const double* shift, std::int64_t orders, std::int64_t classes,
                                  std::int64_t dim) {
        for (std::int64_t k = 0; k < orders; ++k)
            for (std::int64_t c = 0; c < classes; ++c) {
                double* own = powers + (k * classes + c) * dim;
                for (std::int64_t i = 0; i <= k; ++i) {
                    const double* move = moves + i * dim;
                    double share = -products[(k - i) * classes + c];
                    if (i == k) share += shift[c];
                    std::int64_t j = 0;
                    for (; j + kLanes <= dim; j += kLanes) {
                        Eight<kWidth> y, v;
                        y.load(own + j);
                        v.load(move + j);
                        y.add_product(v, share);
                        y.store(own + j);
                    }
                    for (; j < dim; ++j) own[j] += move[j] * share;
                }
            }
        return true;
    }
};

}  // namespace

Status packed_multiply(const double* matrix, std::int64_t dim, const double* vectors,
                       std::int64_t n, double* out, Isa isa) {
    for (std::int64_t i = 0; i < n; ++i) {
        double product = 0;
        dispatch<PackedMultiply>(isa, matrix, vectors + i * dim, dim, out + i * dim, &product);
        if (!std::isfinite(product)) return Status::kNotFinite;
    }
    return Status::kOk;
}

Status resolvent_update(double* inverse, double* powers, std::int64_t orders, std::int64_t classes,
                        std::int64_t dim, const double* z, const double* shift, double* scratch,
                        Isa isa, const double* before) {
    if (!before) before = inverse;
    double check = 0;
    for (std::int64_t j = 0; j < dim; ++j) check += z[j] * 0.0;
    for (std::int64_t c = 0; c < classes; ++c) check += shift[c] * 0.0;
    if (check != 0) return Status::kNotFinite;

    double *moves = scratch, *products = scratch + orders * dim;
    double leverage = 0;
    dispatch<PackedMultiply>(isa, before, z, dim, moves, &leverage);
    if (!std::isfinite(leverage)) return Status::kNotFinite;
    if (!(leverage > kLeastLeverage)) return Status::kRefused;
    dispatch<Project>(isa, z, static_cast<const double*>(powers), orders * classes, dim, products);
    check = 0;
    for (std::int64_t i = 0; i < orders * classes; ++i) check += products[i] * 0.0;
    if (check != 0) return Status::kNotFinite;

    const double left = 1 + leverage;
    for (std::int64_t j = 0; j < dim; ++j) moves[j] /= left;
    if (orders > 1)
        dispatch<PackedCorrectMultiply>(isa, before, static_cast<const double*>(moves), dim, left,
                                        inverse, moves + dim);
    else
        dispatch<PackedCorrect>(isa, before, static_cast<const double*>(moves), dim, left, inverse);
    for (std::int64_t k = 2; k < orders; ++k) {
        double product = 0;
        dispatch<PackedMultiply>(isa, static_cast<const double*>(inverse),
                                 static_cast<const double*>(moves + (k - 1) * dim), dim,
                                 moves + k * dim, &product);
    }
    dispatch<Renew>(isa, powers, static_cast<const double*>(moves),
                    static_cast<const double*>(products), shift, orders, classes, dim);
    return Status::kOk;
}

}  // namespace edgetl
