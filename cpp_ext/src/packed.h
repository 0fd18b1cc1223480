// Symmetric matrices of which only the lower triangle is kept, row by row: products with a vector
// and corrections of rank one, for the kernels that hold an inverse.
//
// Every element is read once per pass, as a row's and as a column's: at the sizes that matter the
// triangle lies in no near cache, and a pass costs what reading it does.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace edgetl {

// out = matrix * x, and product = x * out.
struct PackedMultiply {
    template <int kWidth>
    static EDGETL_INLINE bool run(const double* matrix, const double* x, std::int64_t dim,
                                  double* out, double* product) {
        const double* row = matrix;
        for (std::int64_t i = 0; i < dim; row += ++i) {
            const double own = x[i];
            Eight<kWidth> sums;
            sums.zero();
            std::int64_t j = 0;
            for (; j + kLanes <= i; j += kLanes) {
                Eight<kWidth> p, v, y;
                p.load(row + j);
                v.load(x + j);
                y.load(out + j);
                sums.add_product(p, v);
                y.add_product(p, own);
                y.store(out + j);
            }
            double lanes[kLanes];
            sums.store(lanes);
            for (std::int64_t left = j; left < i; ++left) {
                lanes[left - j] += row[left] * x[left];
                out[left] += row[left] * own;
            }
            out[i] = sum_lanes(lanes) + row[i] * own;
        }
        dots<kWidth, 1>(x, out, dim, dim, product);
        return true;
    }
};

// changed = matrix - scale x x^T; `changed` may be `matrix`.
struct PackedCorrect {
    template <int kWidth>
    static EDGETL_INLINE bool run(const double* matrix, const double* x, std::int64_t dim,
                                  double scale, double* changed) {
        const double* row = matrix;
        double* own = changed;
        for (std::int64_t i = 0; i < dim; row += ++i, own += i) {
            const double factor = -(scale * x[i]);
            std::int64_t j = 0;
            for (; j + kLanes <= i + 1; j += kLanes) {
                Eight<kWidth> p, v;
                p.load(row + j);
                v.load(x + j);
                p.add_product(v, factor);
                p.store(own + j);
            }
            for (; j <= i; ++j) own[j] = row[j] + x[j] * factor;
        }
        return true;
    }
};

// Both in one pass: changed = matrix - scale x x^T, then out = changed * x.
struct PackedCorrectMultiply {
    template <int kWidth>
    static EDGETL_INLINE bool run(const double* matrix, const double* x, std::int64_t dim,
                                  double scale, double* changed, double* out) {
        const double* row = matrix;
        double* kept = changed;
        for (std::int64_t i = 0; i < dim; row += ++i, kept += i) {
            const double own = x[i], factor = -(scale * own);
            Eight<kWidth> sums;
            sums.zero();
            std::int64_t j = 0;
            for (; j + kLanes <= i; j += kLanes) {
                Eight<kWidth> p, v, y;
                p.load(row + j);
                v.load(x + j);
                y.load(out + j);
                p.add_product(v, factor);
                p.store(kept + j);
                sums.add_product(p, v);
                y.add_product(p, own);
                y.store(out + j);
            }
            double lanes[kLanes];
            sums.store(lanes);
            for (std::int64_t left = j; left < i; ++left) {
                kept[left] = row[left] + x[left] * factor;
                lanes[left - j] += kept[left] * x[left];
                out[left] += kept[left] * own;
            }
            kept[i] = row[i] + own * factor;
            out[i] = sum_lanes(lanes) + kept[i] * own;
        }
        return true;
    }
};

}  // namespace edgetl
