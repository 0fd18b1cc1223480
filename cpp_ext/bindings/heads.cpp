// Python face of edgetl/heads.h: checks shapes and overlaps, releases the GIL, calls.
#include "edgetl/heads.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string_view.h>

#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "arrays.h"
#include "bindings.h"

namespace nb = nanobind;

namespace {

using arrays::Array;
using arrays::check_output;
using arrays::length;
using arrays::named_isa;
using arrays::require;

using Features = Array<const float, 2>;
using Matrix = Array<const double, 2>;
using Vector = Array<const double, 1>;
using Codes = Array<const std::int64_t, 1>;
using MatrixOut = Array<double, 2>;
using VectorOut = Array<double, 1>;
using Singles = Array<float, 2>;
using IndexOut = Array<std::int64_t, 2>;

int number(edgetl::Status status) {
    return static_cast<int>(status);
}

template <typename Coef>
void check_linear(const Features& features, const Coef& coef, const Vector& intercept,
                  const MatrixOut& out) {
    require(coef.shape(1) == features.shape(1) && intercept.shape(0) == coef.shape(0) &&
                out.shape(0) == features.shape(0) && out.shape(1) == coef.shape(0),
            "features, coef, intercept and out do not fit each other");
    check_output(out, features, coef, intercept);
}

void check_temperature(double temperature) {
    require(temperature > 0 && std::isfinite(temperature), "temperature must be positive");
}

template <typename T>
int linear_scores(const Features& features, const Array<const T, 2>& coef, const Vector& intercept,
                  const MatrixOut& out, std::string_view isa) {
    check_linear(features, coef, intercept, out);
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::linear_scores(features.data(), length(features, 0), length(features, 1),
                                        coef.data(), intercept.data(), length(coef, 0), out.data(),
                                        level));
}

template <typename T>
int linear_probabilities(const Features& features, const Array<const T, 2>& coef,
                         const Vector& intercept, double temperature, const MatrixOut& out,
                         std::string_view isa) {
    check_linear(features, coef, intercept, out);
    check_temperature(temperature);
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::linear_probabilities(features.data(), length(features, 0),
                                               length(features, 1), coef.data(), intercept.data(),
                                               length(coef, 0), temperature, out.data(), level));
}

int softmax(const Matrix& scores, double temperature, const MatrixOut& out, std::string_view isa) {
    require(scores.shape(0) == out.shape(0) && scores.shape(1) == out.shape(1),
            "scores and out have different shapes");
    if (scores.data() != out.data()) check_output(out, scores);
    check_temperature(temperature);
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::softmax(scores.data(), length(scores, 0), length(scores, 1), temperature,
                                  out.data(), level));
}

int cosine(const Features& features, const Matrix& rows, const std::optional<Vector>& middle,
           const VectorOut& scratch, const MatrixOut& out, std::string_view isa) {
    const auto dim = features.shape(1), m = rows.shape(0);
    require(rows.shape(1) == dim && out.shape(0) == features.shape(0) && out.shape(1) == m &&
                scratch.shape(0) >= dim + m,
            "features, rows, scratch and out do not fit each other");
    check_output(out, features, rows, scratch);
    check_output(scratch, features, rows);
    if (middle) {
        require(middle->shape(0) == dim, "middle does not fit the features");
        check_output(out, *middle);
        check_output(scratch, *middle);
    }
    const edgetl::Isa level = named_isa(isa);
    const double* origin = middle ? middle->data() : nullptr;
    nb::gil_scoped_release release;
    return number(edgetl::cosine(features.data(), length(features, 0), length(features, 1),
                                 rows.data(), length(rows, 0), origin, scratch.data(), out.data(),
                                 level));
}

int nearest(const Features& features, const Features& rows, const Array<float, 1>& scratch,
            const IndexOut& indices, const MatrixOut& similarities, std::string_view isa) {
    const auto n = features.shape(0), dim = features.shape(1), k = indices.shape(1);
    require(rows.shape(1) == dim && indices.shape(0) == n && similarities.shape(0) == n &&
                similarities.shape(1) == k && k <= rows.shape(0) && scratch.shape(0) >= n * dim,
            "features, rows, scratch, indices and similarities do not fit each other");
    check_output(indices, features, rows, scratch, similarities);
    check_output(similarities, features, rows, scratch);
    check_output(scratch, features, rows);
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::nearest(features.data(), length(features, 0), length(features, 1),
                                  rows.data(), length(rows, 0), length(indices, 1), scratch.data(),
                                  indices.data(), similarities.data(), level));
}

template <typename T>
int largest(const Array<const T, 2>& values, const IndexOut& indices, const Array<T, 2>& found) {
    const auto n = values.shape(0), k = indices.shape(1);
    require(
        indices.shape(0) == n && found.shape(0) == n && found.shape(1) == k && k <= values.shape(1),
        "values, indices and found do not fit each other");
    check_output(indices, values, found);
    check_output(found, values);
    nb::gil_scoped_release release;
    return number(edgetl::largest(values.data(), length(values, 0), length(values, 1),
                                  length(indices, 1), indices.data(), found.data()));
}

int ridge_update(const VectorOut& inverse, const MatrixOut& coef, const VectorOut& intercept,
                 const VectorOut& mean, const VectorOut& target_mean, const VectorOut& total,
                 const Array<const float, 1>& x, const Vector& targets, double weight,
                 const VectorOut& scratch, std::string_view isa) {
    const auto dim = x.shape(0), classes = targets.shape(0);
    require(inverse.shape(0) == dim * (dim + 1) / 2 && coef.shape(0) == classes &&
                coef.shape(1) == dim && intercept.shape(0) == classes && mean.shape(0) == dim &&
                target_mean.shape(0) == classes && total.shape(0) == 1 &&
                scratch.shape(0) >= 2 * dim,
            "the state, x, targets and scratch do not fit each other");
    check_output(inverse, coef, intercept, mean, target_mean, total, x, targets, scratch);
    check_output(coef, intercept, mean, target_mean, total, x, targets, scratch);
    check_output(intercept, mean, target_mean, total, x, targets, scratch);
    check_output(mean, target_mean, total, x, targets, scratch);
    check_output(target_mean, total, x, targets, scratch);
    check_output(total, x, targets, scratch);
    check_output(scratch, x, targets);
    const edgetl::RidgeState state{inverse.data(), coef.data(),        intercept.data(),
                                   mean.data(),    target_mean.data(), total.data()};
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::ridge_update(state, static_cast<std::int64_t>(dim),
                                       static_cast<std::int64_t>(classes), x.data(), targets.data(),
                                       weight, scratch.data(), level));
}

int packed_multiply(const Vector& matrix, const Matrix& vectors, const MatrixOut& out,
                    std::string_view isa) {
    const auto dim = vectors.shape(1);
    require(matrix.shape(0) == dim * (dim + 1) / 2 && out.shape(0) == vectors.shape(0) &&
                out.shape(1) == dim,
            "matrix, vectors and out do not fit each other");
    check_output(out, matrix, vectors);
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::packed_multiply(matrix.data(), length(vectors, 1), vectors.data(),
                                          length(vectors, 0), out.data(), level));
}

int resolvent_update(const VectorOut& inverse, const Array<double, 3>& powers, const Vector& z,
                     const Vector& shift, const VectorOut& scratch, std::string_view isa,
                     const std::optional<Vector>& before) {
    const auto orders = powers.shape(0), classes = powers.shape(1), dim = powers.shape(2);
    require(inverse.shape(0) == dim * (dim + 1) / 2 && z.shape(0) == dim &&
                shift.shape(0) == classes && orders > 0 &&
                scratch.shape(0) >= orders * (dim + classes),
            "inverse, powers, z, shift and scratch do not fit each other");
    require(!before || before->shape(0) == inverse.shape(0), "before and inverse differ in size");
    check_output(inverse, powers, z, shift, scratch);
    if (before) {
        check_output(inverse, *before);
        check_output(powers, *before);
        check_output(scratch, *before);
    }
    check_output(powers, z, shift, scratch);
    check_output(scratch, z, shift);
    const edgetl::Isa level = named_isa(isa);
    nb::gil_scoped_release release;
    return number(edgetl::resolvent_update(
        inverse.data(), powers.data(), static_cast<std::int64_t>(orders),
        static_cast<std::int64_t>(classes), static_cast<std::int64_t>(dim), z.data(), shift.data(),
        scratch.data(), level, before ? before->data() : nullptr));
}

// The status, and the loss before the step.
std::pair<int, double> softmax_step(const Features& features, const Codes& codes,
                                    const std::optional<Vector>& weights, const MatrixOut& coef,
                                    const VectorOut& intercept,
                                    const std::optional<MatrixOut>& coef_velocity,
                                    const std::optional<VectorOut>& intercept_velocity, double rate,
                                    double l2, double momentum, const VectorOut& scratch,
                                    std::string_view isa) {
    const auto n = features.shape(0), dim = features.shape(1), classes = coef.shape(0);
    require(codes.shape(0) == n && coef.shape(1) == dim && intercept.shape(0) == classes &&
                scratch.shape(0) >= n * classes,
            "features, codes, coef, intercept and scratch do not fit each other");
    require(!weights || weights->shape(0) == n, "weights do not fit the features");
    require(momentum == 0 || (coef_velocity && intercept_velocity),
            "a momentum needs both velocities");
    for (std::size_t i = 0; i < n; ++i)
        require(codes.data()[i] >= 0 && codes.data()[i] < static_cast<std::int64_t>(classes),
                "a code is not one of the classes");
    if (weights)
        for (std::size_t i = 0; i < n; ++i)
            require(weights->data()[i] >= 0, "a weight is negative or not a number");
    check_output(coef, intercept, features, codes, scratch);
    check_output(intercept, features, codes, scratch);
    check_output(scratch, features, codes);
    if (weights) {
        check_output(coef, *weights);
        check_output(intercept, *weights);
        check_output(scratch, *weights);
    }
    double *coef_moving = nullptr, *intercept_moving = nullptr;
    if (momentum != 0) {
        require(coef_velocity->shape(0) == classes && coef_velocity->shape(1) == dim &&
                    intercept_velocity->shape(0) == classes,
                "the velocities do not fit coef and intercept");
        check_output(*coef_velocity, coef, intercept, features, codes, scratch);
        check_output(*intercept_velocity, *coef_velocity, coef, intercept, features, codes,
                     scratch);
        if (weights) check_output(*coef_velocity, *weights);
        if (weights) check_output(*intercept_velocity, *weights);
        coef_moving = coef_velocity->data();
        intercept_moving = intercept_velocity->data();
    }
    const edgetl::SgdStep step{rate, l2, momentum};
    const edgetl::Isa level = named_isa(isa);
    const double* shares = weights ? weights->data() : nullptr;
    double loss = 0;
    nb::gil_scoped_release release;
    const edgetl::Status status = edgetl::softmax_step(
        features.data(), codes.data(), shares, static_cast<std::int64_t>(n),
        static_cast<std::int64_t>(dim), static_cast<std::int64_t>(classes), step, coef.data(),
        intercept.data(), coef_moving, intercept_moving, scratch.data(), &loss, level);
    return {number(status), loss};
}

// The status, and the inverse strength of the penalty.
std::pair<int, double> softmax_descent(
    const Features& features, const Codes& codes, const Vector& weights, const Singles& coef,
    const Array<float, 1>& intercept, const Singles& coef_speed,
    const Array<float, 1>& intercept_speed, const Singles& coef_average,
    const Array<float, 1>& intercept_average, const Array<float, 1>& mean, std::int64_t batch,
    double spread, double rate, double momentum, double settled, double averaged, double weakest,
    double strongest, std::string_view isa) {
    const auto n = features.shape(0), dim = features.shape(1), classes = coef.shape(0);
    const auto fits = [&](const Singles& one, const Array<float, 1>& other) {
        return one.shape(0) == classes && one.shape(1) == dim && other.shape(0) == classes;
    };
    require(codes.shape(0) == n && weights.shape(0) == n && mean.shape(0) == dim &&
                fits(coef, intercept) && fits(coef_speed, intercept_speed) &&
                fits(coef_average, intercept_average),
            "features, codes, weights, the state and mean do not fit each other");
    for (std::size_t i = 0; i < n; ++i) {
        require(codes.data()[i] >= 0 && codes.data()[i] < static_cast<std::int64_t>(classes),
                "a code is not one of the classes");
        require(weights.data()[i] > 0, "a weight is not positive");
    }
    require(batch > 0, "a step needs samples");
    check_output(coef, intercept, coef_speed, intercept_speed, coef_average, intercept_average,
                 mean, features, codes, weights);
    check_output(coef_speed, intercept, intercept_speed, coef_average, intercept_average, mean,
                 features, codes, weights);
    check_output(coef_average, intercept, intercept_speed, intercept_average, mean, features, codes,
                 weights);
    check_output(intercept, intercept_speed, intercept_average, mean, features, codes, weights);
    check_output(intercept_speed, intercept_average, mean, features, codes, weights);
    check_output(intercept_average, mean, features, codes, weights);
    check_output(mean, features, codes, weights);
    const edgetl::Isa level = named_isa(isa);
    const edgetl::DescentPlan plan{batch,   spread,   rate,    momentum,
                                   settled, averaged, weakest, strongest};
    const edgetl::DescentState state{coef.data(),         intercept.data(),
                                     coef_speed.data(),   intercept_speed.data(),
                                     coef_average.data(), intercept_average.data()};
    const auto rows = static_cast<std::int64_t>(n), columns = static_cast<std::int64_t>(dim);
    const auto outputs = static_cast<std::int64_t>(classes);
    double strength = 0;
    nb::gil_scoped_release release;
    const auto room = edgetl::descent_scratch(rows, columns, outputs, batch);
    const std::unique_ptr<float[]> singles(new float[static_cast<std::size_t>(room.singles)]);
    const std::unique_ptr<double[]> doubles(new double[static_cast<std::size_t>(room.doubles)]);
    const edgetl::Status status = edgetl::softmax_descent(
        features.data(), codes.data(), weights.data(), rows, columns, outputs, plan, state,
        mean.data(), singles.get(), doubles.get(), &strength, level);
    return {number(status), strength};
}

template <typename T>
void register_linear(nb::module_& module) {
    module.def("linear_scores", &linear_scores<T>, nb::arg("features").noconvert(),
               nb::arg("coef").noconvert(), nb::arg("intercept").noconvert(),
               nb::arg("out").noconvert(), nb::arg("isa"),
               "Scores of a linear head into `out`; the status.");
    module.def("linear_probabilities", &linear_probabilities<T>, nb::arg("features").noconvert(),
               nb::arg("coef").noconvert(), nb::arg("intercept").noconvert(),
               nb::arg("temperature"), nb::arg("out").noconvert(), nb::arg("isa"),
               "Softmax of a linear head's scores into `out`; the status.");
    module.def("largest", &largest<T>, nb::arg("values").noconvert(),
               nb::arg("indices").noconvert(), nb::arg("found").noconvert(),
               "The largest values of each row and where they are; the status.");
}

}  // namespace

void register_heads(nb::module_& module) {
    register_linear<double>(module);
    register_linear<float>(module);
    module.def("softmax", &softmax, nb::arg("scores").noconvert(), nb::arg("temperature"),
               nb::arg("out").noconvert(), nb::arg("isa"),
               "Softmax of each row into `out`; the status.");
    module.def("cosine", &cosine, nb::arg("features").noconvert(), nb::arg("rows").noconvert(),
               nb::arg("middle").none().noconvert(), nb::arg("scratch").noconvert(),
               nb::arg("out").noconvert(), nb::arg("isa"),
               "Cosines of features with rows into `out`; the status.");
    module.def("nearest", &nearest, nb::arg("features").noconvert(), nb::arg("rows").noconvert(),
               nb::arg("scratch").noconvert(), nb::arg("indices").noconvert(),
               nb::arg("similarities").noconvert(), nb::arg("isa"),
               "The rows most similar to each feature; the status.");
    module.def("ridge_update", &ridge_update, nb::arg("inverse").noconvert(),
               nb::arg("coef").noconvert(), nb::arg("intercept").noconvert(),
               nb::arg("mean").noconvert(), nb::arg("target_mean").noconvert(),
               nb::arg("total").noconvert(), nb::arg("x").noconvert(),
               nb::arg("targets").noconvert(), nb::arg("weight"), nb::arg("scratch").noconvert(),
               nb::arg("isa"), "Adds a sample to a ridge regression or takes it away; the status.");
    module.def("packed_multiply", &packed_multiply, nb::arg("matrix").noconvert(),
               nb::arg("vectors").noconvert(), nb::arg("out").noconvert(), nb::arg("isa"),
               "A packed symmetric matrix times vectors into `out`; the status.");
    module.def("resolvent_update", &resolvent_update, nb::arg("inverse").noconvert(),
               nb::arg("powers").noconvert(), nb::arg("z").noconvert(),
               nb::arg("shift").noconvert(), nb::arg("scratch").noconvert(), nb::arg("isa"),
               nb::arg("before").none().noconvert() = nb::none(),
               "Adds a term of rank one to a scatter seen through its resolvent; the status.");
    module.def("softmax_step", &softmax_step, nb::arg("features").noconvert(),
               nb::arg("codes").noconvert(), nb::arg("weights").none().noconvert(),
               nb::arg("coef").noconvert(), nb::arg("intercept").noconvert(),
               nb::arg("coef_velocity").none().noconvert(),
               nb::arg("intercept_velocity").none().noconvert(), nb::arg("rate"), nb::arg("l2"),
               nb::arg("momentum"), nb::arg("scratch").noconvert(), nb::arg("isa"),
               "One step of gradient descent; the status and the loss before it.");
    module.def("softmax_descent", &softmax_descent, nb::arg("features").noconvert(),
               nb::arg("codes").noconvert(), nb::arg("weights").noconvert(),
               nb::arg("coef").noconvert(), nb::arg("intercept").noconvert(),
               nb::arg("coef_speed").noconvert(), nb::arg("intercept_speed").noconvert(),
               nb::arg("coef_average").noconvert(), nb::arg("intercept_average").noconvert(),
               nb::arg("mean").noconvert(), nb::arg("batch"), nb::arg("spread"), nb::arg("rate"),
               nb::arg("momentum"), nb::arg("settled"), nb::arg("averaged"), nb::arg("weakest"),
               nb::arg("strongest"), nb::arg("isa"),
               "Steps of averaged descent; the status and the inverse strength of the penalty.");
}
