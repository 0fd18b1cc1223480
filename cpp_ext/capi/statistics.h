// What ridge and LDA heads keep of all their samples to learn the next one exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "learning.h"

namespace edgetl::capi {

// See RidgeState of edgetl/heads.h. Targets are +1 for the class of a sample and -1 for the others.
struct RidgeStatistics {
    std::vector<double> inverse, coef, intercept, mean, target_mean, total;

    static RidgeStatistics empty(std::size_t dim, std::size_t classes, double alpha);
    // A class without samples, as if all so far had been labelled not it.
    void insert_class(std::size_t place, std::size_t dim);
    void erase_class(std::size_t place, std::size_t dim);
    // O(dim^2). Throws Failure with EDGETL_NOT_FINITE; then nothing was changed.
    void add(const float* x, std::size_t code, double weight);
};

// Class means and the scatter of all samples around the mean of their class: what
// edgetl/heads/lda_learning.py keeps.
struct LdaStatistics {
    std::vector<double> means;    // (classes, dim)
    std::vector<double> totals;   // (classes) weights
    std::vector<double> scatter;  // (dim (dim + 1) / 2) lower triangle, row by row
    double total = 0;             // weight that the scatter is of, forgotten classes too

    static LdaStatistics empty(std::size_t dim);
    // As edgetl/heads/lda_learning.py stores it: the rows that the scatter S is the sum of, or
    // anchor (S + anchor I)^-1; the latter costs O(dim^3), here and there.
    static LdaStatistics restored(const LearningFile& file, std::size_t dim, std::size_t classes);
    std::vector<NamedNumbers> numbers(double shrinkage) const;
    void insert_class(std::size_t place, std::size_t dim);
    void erase_class(std::size_t place, std::size_t dim);
    // O(dim^2).
    void add(const float* x, std::size_t code, double weight);
    // Adds a row times itself to the scatter.
    void scatter_row(const double* row);
    // Coefficients (classes, dim) and intercepts (classes): O(dim^3). Throws Failure with
    // EDGETL_NOT_FINITE if the shrunken covariance has no inverse within rounding.
    void discriminants(double shrinkage, std::vector<double>* coef,
                       std::vector<double>* intercept) const;
};

}  // namespace edgetl::capi
