// Python face of edgetl/preprocess.h: checks shapes and strides, releases the GIL, calls.
#include "edgetl/preprocess.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "arrays.h"
#include "bindings.h"
#include "definition.h"

namespace nb = nanobind;

namespace {

using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::device::cpu>;
// Of any type; the definition says which one it has to be.
using Output = nb::ndarray<nb::ndim<3>, nb::c_contig, nb::device::cpu>;

edgetl::Dtype parse_dtype(std::string_view name) {
    if (name == "float32") return edgetl::Dtype::kFloat32;
    if (name == "float16") return edgetl::Dtype::kFloat16;
    if (name == "bfloat16") return edgetl::Dtype::kBfloat16;
    if (name == "uint8") return edgetl::Dtype::kUint8;
    throw std::invalid_argument("dtype must be float32, float16, bfloat16 or uint8, got '" +
                                std::string(name) + "'");
}

// Numpy has no bfloat16: its bits travel as uint16.
bool holds(const nb::dlpack::dtype& type, edgetl::Dtype dtype) {
    switch (dtype) {
        case edgetl::Dtype::kFloat32:
            return type == nb::dtype<float>();
        case edgetl::Dtype::kFloat16:
            return type.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float) &&
                   type.bits == 16 && type.lanes == 1;
        case edgetl::Dtype::kBfloat16:
            return type == nb::dtype<std::uint16_t>();
        case edgetl::Dtype::kUint8:
            return type == nb::dtype<std::uint8_t>();
    }
    return false;
}

// The pixels at hand; `whole` has the photo's height and width where they are a part of it.
edgetl::Image view(const Pixels& image, const std::optional<std::array<std::int64_t, 2>>& whole,
                   const std::array<std::int64_t, 2>& origin) {
    if (image.shape(2) != 3)
        throw std::invalid_argument("image must have shape (h, w, 3), got " +
                                    std::to_string(image.shape(2)) + " channels");
    if (image.size() == 0)
        throw std::invalid_argument("image is empty: " + std::to_string(image.shape(0)) + " x " +
                                    std::to_string(image.shape(1)) + " pixels");
    if (image.stride(2) != 1 || (image.shape(1) > 1 && image.stride(1) != 3))
        throw std::invalid_argument(
            "pixels must be packed (only rows may be strided); use numpy.ascontiguousarray(image)");
    const auto height = static_cast<std::int64_t>(image.shape(0));
    const auto width = static_cast<std::int64_t>(image.shape(1));
    const std::int64_t stride = height > 1 ? image.stride(0) : 0;
    const std::array<std::int64_t, 2> sides = whole.value_or(std::array{height, width});
    return {image.data(), sides[0], sides[1], stride,
            edgetl::Box{origin[0], origin[1], height, width}};
}

edgetl::Definition define_typed(std::int64_t size, std::int64_t resize, bool bicubic, bool nhwc,
                                bool squash, std::string_view dtype,
                                const std::array<double, 3>& mean,
                                const std::array<double, 3>& std) {
    auto definition = define(size, resize, bicubic, nhwc, squash, mean, std);
    definition.dtype = parse_dtype(dtype);
    return definition;
}

void check_output(const Output& out, const edgetl::Definition& definition) {
    if (!holds(out.dtype(), definition.dtype))
        throw nb::type_error("out has another type than the definition's");
    const auto side = static_cast<std::size_t>(definition.size);
    const bool nhwc = definition.layout == edgetl::Layout::kNhwc;
    if (out.shape(0) != (nhwc ? side : 3) || out.shape(1) != side ||
        out.shape(2) != (nhwc ? 3 : side))
        throw std::invalid_argument("out has the wrong shape for size " + std::to_string(side));
    if (reinterpret_cast<std::uintptr_t>(out.data()) % (out.dtype().bits / 8) != 0)
        throw std::invalid_argument("out is not aligned");
}

void preprocess(const Pixels& image, const Output& out, const edgetl::Definition& definition,
                int threads, std::string_view isa,
                const std::optional<std::array<std::int64_t, 2>>& whole,
                const std::array<std::int64_t, 2>& origin) {
    check_output(out, definition);
    const edgetl::Image pixels = view(image, whole, origin);
    const edgetl::Isa level = arrays::named_isa(isa);
    nb::gil_scoped_release release;
    edgetl::preprocess(pixels, definition, out.data(), threads, level);
}

}  // namespace

void register_preprocess(nb::module_& module) {
    nb::class_<edgetl::Definition>(module, "Definition",
                                   "What edgetl.Preprocess says, as the core wants it.")
        .def(
            "__init__",
            [](edgetl::Definition* self, std::int64_t size, std::int64_t resize, bool bicubic,
               bool nhwc, bool squash, std::string_view dtype, const std::array<double, 3>& mean,
               const std::array<double, 3>& std) {
                new (self) edgetl::Definition(
                    define_typed(size, resize, bicubic, nhwc, squash, dtype, mean, std));
            },
            nb::arg("size"), nb::arg("resize"), nb::arg("bicubic"), nb::arg("nhwc"),
            nb::arg("squash"), nb::arg("dtype"), nb::arg("mean"), nb::arg("std"));
    module.def("preprocess", &preprocess, nb::arg("image").noconvert(), nb::arg("out").noconvert(),
               nb::arg("definition"), nb::arg("threads"), nb::arg("isa"),
               nb::arg("whole") = nb::none(), nb::arg("origin") = std::array<std::int64_t, 2>{0, 0},
               "Resize, crop, normalise one image, or a part of one, into `out`.");
    module.def(
        "needed",
        [](std::int64_t height, std::int64_t width, const edgetl::Definition& definition) {
            const edgetl::Box box = edgetl::needed(height, width, definition);
            return nb::make_tuple(box.top, box.left, box.height, box.width);
        },
        nb::arg("height"), nb::arg("width"), nb::arg("definition"),
        "Top, left, height and width of the part of a photo that the output depends on.");
    module.def(
        "instruction_sets",
        [] {
            nb::list names;
            for (edgetl::Isa isa : edgetl::kIsas)
                if (edgetl::has_isa(isa)) names.append(edgetl::isa_name(isa));
            return names;
        },
        "The instruction sets of this machine, the best one last.");
}
