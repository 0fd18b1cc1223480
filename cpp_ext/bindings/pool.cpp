// Python face of edgetl/pool.h: checks shapes and overlaps, releases the GIL, calls.
#include "edgetl/pool.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string_view.h>

#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "arrays.h"
#include "bindings.h"

namespace nb = nanobind;

namespace {

using arrays::Array;
using arrays::check_output;
using arrays::length;
using arrays::require;

// `maps`: (n, channels, positions) or (n, positions, channels); `eps`: none for no normalisation.
template <edgetl::Storage kStorage, typename T>
void pool(const Array<const float, 3>& maps, bool nhwc, std::optional<double> eps,
          const Array<T, 2>& out, const Array<std::uint8_t, 1>& states,
          const Array<double, 1>& losses, std::string_view isa) {
    edgetl::PoolTask task{};
    task.channels = length(maps, nhwc ? 2 : 1);
    task.positions = length(maps, nhwc ? 1 : 2);
    task.layout = nhwc ? edgetl::Layout::kNhwc : edgetl::Layout::kNchw;
    task.normalise = eps.has_value();
    task.eps = eps.value_or(0.0);
    task.storage = kStorage;
    require(length(out, 0) == length(maps, 0) && length(out, 1) == task.channels &&
                states.shape(0) == maps.shape(0) && losses.shape(0) == maps.shape(0),
            "maps, out, states and losses do not fit each other");
    require(task.positions > 0, "a map has no positions");
    require(task.eps >= 0 && std::isfinite(task.eps), "eps must be finite and not negative");
    check_output(out, maps, states, losses);
    check_output(states, maps, losses);
    check_output(losses, maps);
    const edgetl::Isa level = arrays::named_isa(isa);
    std::vector<float> scratch(static_cast<std::size_t>(task.channels));
    nb::gil_scoped_release release;
    edgetl::pool(maps.data(), length(maps, 0), task, scratch.data(), out.data(),
                 reinterpret_cast<edgetl::RowState*>(states.data()), losses.data(), level);
}

void widen_float16(const Array<const std::uint16_t, 1>& values, const Array<float, 1>& out,
                   std::string_view isa) {
    require(values.shape(0) == out.shape(0), "values and out do not fit each other");
    check_output(out, values);
    const edgetl::Isa level = arrays::named_isa(isa);
    nb::gil_scoped_release release;
    edgetl::widen_float16(values.data(), length(values, 0), out.data(), level);
}

template <edgetl::Storage kStorage, typename T>
void register_storage(nb::module_& module, const char* name) {
    module.def(name, &pool<kStorage, T>, nb::arg("maps").noconvert(), nb::arg("nhwc"),
               nb::arg("eps").none(), nb::arg("out").noconvert(), nb::arg("states").noconvert(),
               nb::arg("losses").noconvert(), nb::arg("isa"),
               "Pool, normalise and round feature maps into `out`.");
}

}  // namespace

void register_pool(nb::module_& module) {
    register_storage<edgetl::Storage::kFloat32, float>(module, "pool_float32");
    register_storage<edgetl::Storage::kFloat16, std::uint16_t>(module, "pool_float16");
    register_storage<edgetl::Storage::kBfloat16, std::uint16_t>(module, "pool_bfloat16");
    module.def("widen_float16", &widen_float16, nb::arg("values").noconvert(),
               nb::arg("out").noconvert(), nb::arg("isa"), "float16 bits to float32.");
}
