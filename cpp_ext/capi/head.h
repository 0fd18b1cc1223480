// A head as the C library keeps it: immutable once it was handed out. Reading, writing and scoring
// are functions beside it; learning makes new ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "edgetl.h"

struct edgetl_head {
    std::int32_t kind = EDGETL_LINEAR;
    std::size_t classes = 0;
    std::size_t features = 0;
    double temperature = 1;

    // Linear heads. The coefficients lie in one of the two, as they are stored or as they were
    // learned; the other is empty.
    std::vector<float> narrow;
    std::vector<double> wide;
    std::vector<double> intercept;
    double strength = 1;

    // Prototypes: (classes, dim) and (classes). `middle` is what the cosines are seen from.
    std::vector<double> means;
    std::vector<double> totals;
    std::vector<double> middle;
    double scale = 1;
    bool center = false;

    // Neighbours: (n, dim), (n) and (n); k.
    std::vector<float> neighbours;
    std::vector<std::int64_t> codes;
    std::vector<double> weights;
    std::int64_t k = 1;

    std::vector<std::int64_t> labels;  // rising; empty if not stored
    std::vector<std::string> names;    // by class; empty if not known
};

namespace edgetl::capi {

// From the bytes of a head.safetensors; throws Failure.
std::unique_ptr<edgetl_head> read_head(const unsigned char* data, std::size_t bytes);

// The bytes that Python's Head.arrays would give for it.
std::string head_bytes(const edgetl_head& head);

// Makes what is computed from the arrays; to be called after they changed.
void finish(edgetl_head& head);

// Throws Failure with EDGETL_NOT_FINITE. features: (n, dim); out: (n, classes).
void score(const edgetl_head& head, const float* features, std::size_t n, double* out);

// Refuses features that are not n rows of the head's width, or whose result would be beyond
// addresses.
void check_features(const edgetl_head& head, const float* features, std::size_t n, std::size_t dim);

const char* kind_name(std::int32_t kind);

}  // namespace edgetl::capi
