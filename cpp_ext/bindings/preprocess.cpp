// Python face of edgetl/preprocess.h: checks shapes and strides, releases the GIL, calls.
#include "edgetl/preprocess.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "bindings.h"

namespace nb = nanobind;

namespace {

using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

edgetl::Isa parse_isa(std::string_view name) {
    for (edgetl::Isa isa : {edgetl::Isa::kPortable, edgetl::Isa::kAvx2, edgetl::Isa::kAvx512})
        if (name == edgetl::isa_name(isa)) return isa;
    throw std::invalid_argument("instruction set must be portable, avx2 or avx512, got '" +
                                std::string(name) + "'");
}

edgetl::Image view(const Pixels& image) {
    if (image.shape(2) != 3)
        throw std::invalid_argument("image must have shape (h, w, 3), got " +
                                    std::to_string(image.shape(2)) + " channels");
    if (image.size() == 0)
        throw std::invalid_argument("image is empty: " + std::to_string(image.shape(0)) + " x " +
                                    std::to_string(image.shape(1)) + " pixels");
    if (image.stride(2) != 1 || (image.shape(1) > 1 && image.stride(1) != 3))
        throw std::invalid_argument(
            "pixels must be packed (only rows may be strided); use numpy.ascontiguousarray(image)");
    return {image.data(), static_cast<std::int64_t>(image.shape(0)),
            static_cast<std::int64_t>(image.shape(1)), image.shape(0) > 1 ? image.stride(0) : 0};
}

edgetl::Definition define(std::int64_t size, std::int64_t resize, bool bicubic, bool nhwc,
                          bool squash, const std::array<double, 3>& mean,
                          const std::array<double, 3>& std) {
    edgetl::Definition definition{};
    definition.size = size;
    definition.resize = resize;
    definition.filter = bicubic ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
    definition.layout = nhwc ? edgetl::Layout::kNhwc : edgetl::Layout::kNchw;
    definition.fit = squash ? edgetl::Fit::kSquash : edgetl::Fit::kShortest;
    for (int c = 0; c < 3; ++c) {
        definition.mean[c] = static_cast<float>(mean[c]);
        definition.std[c] = static_cast<float>(std[c]);
    }
    return definition;
}

template <typename Array>
void check_output(const Array& out, std::int64_t size, bool nhwc) {
    const auto side = static_cast<std::size_t>(size);
    if (out.shape(0) != (nhwc ? side : 3) || out.shape(1) != side ||
        out.shape(2) != (nhwc ? 3 : side))
        throw std::invalid_argument("out has the wrong shape for size " + std::to_string(size));
}

void preprocess(const Pixels& image, const Output& out, std::int64_t size, std::int64_t resize,
                bool bicubic, bool nhwc, bool squash, const std::array<double, 3>& mean,
                const std::array<double, 3>& std, int threads, std::string_view isa) {
    const auto definition = define(size, resize, bicubic, nhwc, squash, mean, std);
    check_output(out, size, nhwc);
    if (reinterpret_cast<std::uintptr_t>(out.data()) % alignof(float) != 0)
        throw std::invalid_argument("out is not aligned");
    const edgetl::Image pixels = view(image);
    const edgetl::Isa level = parse_isa(isa);
    nb::gil_scoped_release release;
    edgetl::preprocess(pixels, definition, out.data(), threads, level);
}

void preprocess_bytes(const Pixels& image, const Bytes& out, std::int64_t size, std::int64_t resize,
                      bool bicubic, bool squash, int threads, std::string_view isa) {
    const auto definition = define(size, resize, bicubic, true, squash, {0, 0, 0}, {1, 1, 1});
    check_output(out, size, true);
    const edgetl::Image pixels = view(image);
    const edgetl::Isa level = parse_isa(isa);
    nb::gil_scoped_release release;
    edgetl::preprocess(pixels, definition, out.data(), threads, level);
}

}  // namespace

void register_preprocess(nb::module_& module) {
    module.def("preprocess", &preprocess, nb::arg("image").noconvert(), nb::arg("out").noconvert(),
               nb::arg("size"), nb::arg("resize"), nb::arg("bicubic"), nb::arg("nhwc"),
               nb::arg("squash"), nb::arg("mean"), nb::arg("std"), nb::arg("threads"),
               nb::arg("isa"), "Resize, crop, normalise one image into `out`.");
    module.def("preprocess_bytes", &preprocess_bytes, nb::arg("image").noconvert(),
               nb::arg("out").noconvert(), nb::arg("size"), nb::arg("resize"), nb::arg("bicubic"),
               nb::arg("squash"), nb::arg("threads"), nb::arg("isa"),
               "Resize and crop one image into `out`, without normalising.");
    module.def(
        "best_isa", [] { return std::string(edgetl::isa_name(edgetl::best_isa())); },
        "The best instruction set of this machine.");
}
