// Updates of statistics and what follows from them; see statistics.h.
#include "statistics.h"

#include <algorithm>
#include <cmath>

#include "boundary.h"
#include "edgetl/heads.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kPanel = 32;  // columns of a factor that are made at a time

std::size_t packed(std::size_t dim) {
    return dim * (dim + 1) / 2;
}

template <typename Values>
void insert_row(Values& rows, std::size_t place, std::size_t dim, double value) {
    rows.insert(rows.begin() + static_cast<std::ptrdiff_t>(place * dim), dim, value);
}

template <typename Values>
void erase_row(Values& rows, std::size_t place, std::size_t dim) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(place * dim);
    rows.erase(first, first + static_cast<std::ptrdiff_t>(dim));
}

// The lower triangle of a positive definite matrix, row by row, becomes its Cholesky factor. A
// panel of columns is made from what is above and left of it, then taken off all that is right of
// it, row by row, while a row is in the nearest cache. False if the matrix is not positive
// definite.
bool factorise(std::vector<double>& matrix, std::size_t dim) {
    const auto row = [&](std::size_t i) { return matrix.data() + packed(i); };
    std::vector<double> columns(kPanel * dim);
    for (std::size_t start = 0; start < dim; start += kPanel) {
        const std::size_t width = std::min(kPanel, dim - start);
        for (std::size_t i = start; i < dim; ++i) {
            double* own = row(i) + start;
            for (std::size_t k = 0; k < width && start + k <= i; ++k) {
                const double* other = row(start + k) + start;
                double value = own[k];
                for (std::size_t j = 0; j < k; ++j) value -= own[j] * other[j];
                if (start + k == i) {
                    if (!(value > 0) || !std::isfinite(value)) return false;
                    own[k] = std::sqrt(value);
                } else {
                    own[k] = value / other[k];
                }
                columns[k * dim + i] = own[k];
            }
        }
        const std::size_t next = start + width;
        for (std::size_t i = next; i < dim; ++i) {
            double* own = row(i);
            for (std::size_t k = 0; k < width; ++k) {
                const double factor = own[start + k];
                const double* column = columns.data() + k * dim;
                for (std::size_t j = next; j <= i; ++j) own[j] -= factor * column[j];
            }
        }
    }
    return true;
}

// factor factor^T x = x, in place.
void solve(const std::vector<double>& factor, std::size_t dim, double* x) {
    for (std::size_t i = 0; i < dim; ++i) {
        const double* row = factor.data() + packed(i);
        double value = x[i];
        for (std::size_t j = 0; j < i; ++j) value -= row[j] * x[j];
        x[i] = value / row[i];
    }
    for (std::size_t i = dim; i-- > 0;) {
        const double* row = factor.data() + packed(i);
        x[i] /= row[i];
        for (std::size_t j = 0; j < i; ++j) x[j] -= row[j] * x[i];
    }
}

// The lower triangle of a positive definite matrix becomes that of its inverse. False if it is
// none.
bool invert(std::vector<double>& matrix, std::size_t dim) {
    if (!factorise(matrix, dim)) return false;
    const auto row = [&](std::size_t i) { return matrix.data() + packed(i); };
    // The factor's inverse, row by row: what is above a row is done.
    std::vector<double> factor(dim);
    for (std::size_t i = 0; i < dim; ++i) {
        double* own = row(i);
        std::copy(own, own + i + 1, factor.begin());
        std::fill(own, own + i + 1, 0.0);
        for (std::size_t k = 0; k < i; ++k) {
            const double* other = row(k);
            for (std::size_t j = 0; j <= k; ++j) own[j] -= factor[k] * other[j];
        }
        own[i] = 1;
        for (std::size_t j = 0; j <= i; ++j) own[j] /= factor[i];
    }
    // Its transpose times itself: a row of the product takes only rows from its own on.
    std::vector<double> sum(dim);
    for (std::size_t i = 0; i < dim; ++i) {
        std::fill(sum.begin(), sum.begin() + static_cast<std::ptrdiff_t>(i + 1), 0.0);
        for (std::size_t k = i; k < dim; ++k) {
            const double* other = row(k);
            const double share = other[i];
            for (std::size_t j = 0; j <= i; ++j) sum[j] += share * other[j];
        }
        std::copy(sum.begin(), sum.begin() + static_cast<std::ptrdiff_t>(i + 1), row(i));
    }
    return true;
}

[[noreturn]] void corrupt(const char* text) {
    throw Failure(EDGETL_CORRUPT, std::string("statistics of LDA: ") + text);
}

}  // namespace

RidgeStatistics RidgeStatistics::empty(std::size_t dim, std::size_t classes, double alpha) {
    RidgeStatistics state;
    state.inverse.assign(packed(dim), 0.0);
    for (std::size_t i = 0; i < dim; ++i) state.inverse[packed(i) + i] = 1 / alpha;
    state.coef.assign(classes * dim, 0.0);
    state.intercept.assign(classes, 0.0);
    state.mean.assign(dim, 0.0);
    state.target_mean.assign(classes, 0.0);
    state.total.assign(1, 0.0);
    return state;
}

void RidgeStatistics::insert_class(std::size_t place, std::size_t dim) {
    insert_row(coef, place, dim, 0.0);
    insert_row(intercept, place, 1, -1.0);
    insert_row(target_mean, place, 1, -1.0);
}

void RidgeStatistics::erase_class(std::size_t place, std::size_t dim) {
    erase_row(coef, place, dim);
    erase_row(intercept, place, 1);
    erase_row(target_mean, place, 1);
}

void RidgeStatistics::add(const float* x, std::size_t code, double weight) {
    const std::size_t classes = intercept.size(), dim = mean.size();
    std::vector<double> targets(classes, -1.0), scratch(2 * dim);
    targets[code] = 1;
    const RidgeState state{inverse.data(), coef.data(),        intercept.data(),
                           mean.data(),    target_mean.data(), total.data()};
    const Status status =
        ridge_update(state, static_cast<std::int64_t>(dim), static_cast<std::int64_t>(classes), x,
                     targets.data(), weight, scratch.data(), best_isa());
    if (status != Status::kOk)
        throw Failure(EDGETL_NOT_FINITE,
                      "a feature is NaN or infinite, or beyond what the "
                      "statistics can hold");
}

LdaStatistics LdaStatistics::empty(std::size_t dim) {
    LdaStatistics state;
    state.scatter.assign(packed(dim), 0.0);
    return state;
}

LdaStatistics LdaStatistics::restored(const LearningFile& file, std::size_t dim,
                                      std::size_t classes) {
    LdaStatistics state = empty(dim);
    state.means = file.statistics("means", {classes, dim});
    state.totals = file.statistics("totals", {classes});
    state.total = file.statistics("total", {1})[0];
    const double trace = file.statistics("trace", {1})[0];
    double known = 0;
    for (const double weight : state.totals) {
        if (!(weight > 0)) corrupt("a class without weight");
        known += weight;
    }
    if (!(state.total >= known * (1 - 1e-9)) || !(trace >= 0))
        corrupt("the total or the trace is too small");
    if (!file.has_statistics("inverse")) {
        const std::vector<double> rows = file.statistics_rows("rows", dim);
        for (std::size_t r = 0; r < rows.size() / dim; ++r) state.scatter_row(&rows[r * dim]);
    } else {
        const double anchor = file.statistics("anchor", {1})[0];
        state.scatter = file.statistics("inverse", {packed(dim)});
        if (!(anchor > 0) || !invert(state.scatter, dim)) corrupt("the inverse is none");
        for (double& value : state.scatter) value *= anchor;
        for (std::size_t i = 0; i < dim; ++i) state.scatter[packed(i) + i] -= anchor;
    }
    double found = 0;
    for (std::size_t i = 0; i < dim; ++i) found += state.scatter[packed(i) + i];
    // With a shrinkage of 1 nothing but the trace is kept, and nothing else is needed.
    if (trace > 0 && found == 0)
        for (std::size_t i = 0; i < dim; ++i)
            state.scatter[packed(i) + i] = trace / static_cast<double>(dim);
    else if (!(std::abs(found - trace) <= 1e-6 * trace))
        corrupt("they have another trace than they say");
    return state;
}

std::vector<NamedNumbers> LdaStatistics::numbers(double shrinkage) const {
    const std::size_t dim = means.size() / totals.size();
    double trace = 0;
    for (std::size_t i = 0; i < dim; ++i) trace += scatter[packed(i) + i];
    std::vector<NamedNumbers> result{{"means", {totals.size(), dim}, means},
                                     {"totals", {totals.size()}, totals},
                                     {"total", {1}, {total}},
                                     {"trace", {1}, {trace}}};
    if (!(trace > 0) || shrinkage == 1) {
        result.push_back({"rows", {0, dim}, {}});
        return result;
    }
    // Python takes an anchor a little above the floor that the shrinkage adds.
    const double anchor = 1.15 * shrinkage / (1 - shrinkage) * trace / static_cast<double>(dim);
    std::vector<double> inverse(scatter);
    for (std::size_t i = 0; i < dim; ++i) inverse[packed(i) + i] += anchor;
    if (!invert(inverse, dim))
        throw Failure(EDGETL_NOT_FINITE, "the scatter of the features has no inverse");
    for (double& value : inverse) value *= anchor;
    result.push_back({"inverse", {inverse.size()}, std::move(inverse)});
    result.push_back({"anchor", {1}, {anchor}});
    return result;
}

void LdaStatistics::scatter_row(const double* step) {
    double* row = scatter.data();
    const std::size_t dim = means.size() / totals.size();
    for (std::size_t i = 0; i < dim; row += ++i)
        for (std::size_t j = 0; j <= i; ++j) row[j] += step[i] * step[j];
}

void LdaStatistics::insert_class(std::size_t place, std::size_t dim) {
    insert_row(means, place, dim, 0.0);
    insert_row(totals, place, 1, 0.0);
}

void LdaStatistics::erase_class(std::size_t place, std::size_t dim) {
    erase_row(means, place, dim);
    erase_row(totals, place, 1);
}

void LdaStatistics::add(const float* x, std::size_t code, double weight) {
    const std::size_t dim = means.size() / totals.size();
    double* mean = means.data() + code * dim;
    const double before = totals[code], after = before + weight;
    std::vector<double> step(dim);
    for (std::size_t i = 0; i < dim; ++i) step[i] = static_cast<double>(x[i]) - mean[i];
    // Welford's update: the first sample of a class only sets its mean.
    const double share = before * (weight / after);
    for (std::size_t i = 0; i < dim; ++i) mean[i] += weight / after * step[i];
    if (before > 0) {
        for (double& value : step) value *= std::sqrt(share);
        scatter_row(step.data());
    }
    totals[code] = after;
    total += weight;
}

void LdaStatistics::discriminants(double shrinkage, std::vector<double>* coef,
                                  std::vector<double>* intercept) const {
    const std::size_t classes = totals.size(), dim = means.size() / classes;
    double known = 0, trace = 0;
    for (const double weight : totals) known += weight;
    std::vector<double> middle(dim, 0.0);
    for (std::size_t c = 0; c < classes; ++c)
        for (std::size_t i = 0; i < dim; ++i) middle[i] += totals[c] / known * means[c * dim + i];

    for (std::size_t i = 0; i < dim; ++i) trace += scatter[packed(i) + i];
    // The mean variance; 1 where the samples of every class are all alike and there is none.
    const double spread = trace / total / static_cast<double>(dim);
    const double target = trace > 0 ? spread : 1.0;
    std::vector<double> covariance(scatter);
    for (double& value : covariance) value *= (1 - shrinkage) / total;
    for (std::size_t i = 0; i < dim; ++i) covariance[packed(i) + i] += shrinkage * target;
    if (!factorise(covariance, dim))
        throw Failure(EDGETL_NOT_FINITE, "the covariance of the features has no inverse");

    coef->assign(means.begin(), means.end());
    intercept->assign(classes, 0.0);
    for (std::size_t c = 0; c < classes; ++c) {
        double* own = coef->data() + c * dim;
        for (std::size_t i = 0; i < dim; ++i) own[i] -= middle[i];
        std::vector<double> offset(own, own + dim);
        solve(covariance, dim, own);
        double length = 0, shift = 0;
        for (std::size_t i = 0; i < dim; ++i) {
            length += own[i] * offset[i];
            shift += own[i] * middle[i];
        }
        (*intercept)[c] = std::log(totals[c] / known) - 0.5 * length - shift;
        if (!std::isfinite((*intercept)[c]))
            throw Failure(EDGETL_NOT_FINITE, "the discriminants are beyond range");
    }
}

}  // namespace edgetl::capi
