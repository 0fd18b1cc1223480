// Cosines, and the nearest of many rows; see edgetl/heads.h.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "edgetl/heads.h"
#include "lanes.h"
#include "singles.h"

namespace edgetl {
namespace {

// Squares of lengths outside are too near to overflow or underflow to be trusted.
constexpr double kLeast = 1e-280;
constexpr double kMost = 1e280;

// 1 / length from a sum of squares, 0 for zeros; false if it can't be trusted.
EDGETL_INLINE bool inverse_length(double squares, bool zeros, double* inverse) {
    *inverse = 0;
    if (squares == 0 && zeros) return true;
    if (!(squares >= kLeast && squares <= kMost)) return false;
    *inverse = 1 / std::sqrt(squares);
    return true;
}

template <typename T>
EDGETL_INLINE bool all_zero(const T* values, const double* middle, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
        if (static_cast<double>(values[i]) != (middle ? middle[i] : 0.0)) return false;
    return true;
}

// The dot product of `query` with `row - middle`, and the square of the latter's length.
template <int kWidth>
EDGETL_INLINE void compare(const double* query, const double* row, const double* middle,
                           std::int64_t count, double* product, double* squares) {
    Eight<kWidth> dot, square;
    dot.zero();
    square.zero();
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        Eight<kWidth> x, y, m;
        x.load(query + i);
        y.load(row + i);
        if (middle) {
            m.load(middle + i);
            y.subtract(m);
        }
        dot.add_product(x, y);
        square.add_product(y, y);
    }
    double dots[kLanes], squared[kLanes];
    dot.store(dots);
    square.store(squared);
    for (std::int64_t left = i; left < count; ++left) {
        const double y = row[left] - (middle ? middle[left] : 0.0);
        dots[left - i] += query[left] * y;
        squared[left - i] += y * y;
    }
    *product = sum_lanes(dots);
    *squares = sum_lanes(squared);
}

struct Cosine {
    template <int kWidth>
    static EDGETL_INLINE bool run(const float* features, std::int64_t n, std::int64_t dim,
                                  const double* rows, std::int64_t m, const double* middle,
                                  double* query, double* inverses, double* out) {
        for (std::int64_t i = 0; i < n; ++i, features += dim, out += m) {
            for (std::int64_t d = 0; d < dim; ++d)
                query[d] = static_cast<double>(features[d]) - (middle ? middle[d] : 0.0);
            double squares = 0, own = 0;
            dots<kWidth, 1>(query, query, dim, dim, &squares);
            const bool zeros = squares == 0 && all_zero(features, middle, dim);
            if (!inverse_length(squares, zeros, &own)) return false;
            for (std::int64_t r = 0; r < m; ++r) {
                double product = 0;
                compare<kWidth>(query, rows + r * dim, middle, dim, &product, &squares);
                if (i == 0) {
                    const bool none = squares == 0 && all_zero(rows + r * dim, middle, dim);
                    if (!inverse_length(squares, none, inverses + r)) return false;
                }
                out[r] = product * own * inverses[r];
            }
        }
        return true;
    }
};

// The best so far, best first; of equals the one that came first stays in front.
template <typename T>
struct Best {
    T* values;
    std::int64_t* indices;
    std::int64_t k;
    std::int64_t count;

    EDGETL_INLINE void offer(T value, std::int64_t index) {
        if (count == k && !(value > values[k - 1])) return;
        insert(value, index);
    }
    void insert(T value, std::int64_t index) {
        std::int64_t place = count < k ? count++ : k - 1;
        for (; place > 0 && value > values[place - 1]; --place) {
            values[place] = values[place - 1];
            indices[place] = indices[place - 1];
        }
        values[place] = value;
        indices[place] = index;
    }
};

// Rows are read once for all queries: they are what there is most of.
struct Nearest {
    template <int kWidth, int kRows>
    static EDGETL_INLINE bool look(const float* queries, std::int64_t n, std::int64_t dim,
                                   const float* rows, std::int64_t first, std::int64_t k,
                                   std::int64_t* indices, double* similarities) {
        double found[kRows] = {}, check = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            single_dots<kWidth, kRows>(queries + i * dim, rows + first * dim, dim, found);
            Best<double> best{similarities + i * k, indices + i * k, k, std::min(first, k)};
            for (int row = 0; row < kRows; ++row) {
                check += found[row] * 0.0;
                best.offer(found[row], first + row);
            }
        }
        return check == 0;
    }

    template <int kWidth>
    static EDGETL_INLINE bool run(const float* features, std::int64_t n, std::int64_t dim,
                                  const float* rows, std::int64_t m, std::int64_t k, float* queries,
                                  std::int64_t* indices, double* similarities) {
        constexpr int block = kBlock<kWidth>;
        for (std::int64_t i = 0; i < n; ++i) {
            const float* feature = features + i * dim;
            double squares = 0;
            dots<kWidth, 1>(feature, feature, dim, dim, &squares);
            // Squares of float32 neither overflow nor vanish in double.
            if (!std::isfinite(squares)) return false;
            const double own = squares > 0 ? 1 / std::sqrt(squares) : 0.0;
            for (std::int64_t d = 0; d < dim; ++d)
                queries[i * dim + d] = static_cast<float>(static_cast<double>(feature[d]) * own);
        }
        bool finite = true;
        std::int64_t r = 0;
        for (; r + block <= m; r += block)
            finite &= look<kWidth, block>(queries, n, dim, rows, r, k, indices, similarities);
        for (; r < m; ++r)
            finite &= look<kWidth, 1>(queries, n, dim, rows, r, k, indices, similarities);
        return finite;
    }
};

template <typename T>
Status largest_rows(const T* values, std::int64_t n, std::int64_t m, std::int64_t k,
                    std::int64_t* indices, T* found) {
    if (k == 0) return Status::kOk;
    for (std::int64_t i = 0; i < n; ++i, values += m) {
        Best<T> best{found + i * k, indices + i * k, k, 0};
        T check = 0;
        for (std::int64_t r = 0; r < m; ++r) {
            check += values[r] * 0;
            best.offer(values[r], r);
        }
        if (check != 0) return Status::kNotFinite;
    }
    return Status::kOk;
}

}  // namespace

Status cosine(const float* features, std::int64_t n, std::int64_t dim, const double* rows,
              std::int64_t m, const double* middle, double* scratch, double* out, Isa isa) {
    const bool finite =
        dispatch<Cosine>(isa, features, n, dim, rows, m, middle, scratch, scratch + dim, out);
    return finite ? Status::kOk : Status::kNotFinite;
}

Status nearest(const float* features, std::int64_t n, std::int64_t dim, const float* rows,
               std::int64_t m, std::int64_t k, float* scratch, std::int64_t* indices,
               double* similarities, Isa isa) {
    if (k == 0) return Status::kOk;
    const bool finite =
        dispatch<Nearest>(isa, features, n, dim, rows, m, k, scratch, indices, similarities);
    return finite ? Status::kOk : Status::kNotFinite;
}

Status largest(const double* values, std::int64_t n, std::int64_t m, std::int64_t k,
               std::int64_t* indices, double* found) {
    return largest_rows(values, n, m, k, indices, found);
}

Status largest(const float* values, std::int64_t n, std::int64_t m, std::int64_t k,
               std::int64_t* indices, float* found) {
    return largest_rows(values, n, m, k, indices, found);
}

}  // namespace edgetl
