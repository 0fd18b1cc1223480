// Python face of edgetl/heads.h: checks shapes, releases the GIL, calls.
#include "edgetl/heads.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "bindings.h"

namespace nb = nanobind;

namespace {

using Features = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

bool linear_probabilities(const Features& features, const Matrix& coef, const Vector& intercept,
                          double temperature, const Output& out) {
    const auto n = features.shape(0), dim = features.shape(1), classes = coef.shape(0);
    if (coef.shape(1) != dim || intercept.shape(0) != classes || out.shape(0) != n ||
        out.shape(1) != classes || classes == 0)
        throw std::invalid_argument("features, coef, intercept and out do not fit each other");
    nb::gil_scoped_release release;
    return edgetl::linear_probabilities(
        features.data(), static_cast<std::int64_t>(n), static_cast<std::int64_t>(dim), coef.data(),
        intercept.data(), static_cast<std::int64_t>(classes), temperature, out.data());
}

}  // namespace

void register_heads(nb::module_& module) {
    module.def("linear_probabilities", &linear_probabilities, nb::arg("features").noconvert(),
               nb::arg("coef").noconvert(), nb::arg("intercept").noconvert(),
               nb::arg("temperature"), nb::arg("out").noconvert(),
               "Softmax of a linear head's scores into `out`; False if anything is not finite.");
}
