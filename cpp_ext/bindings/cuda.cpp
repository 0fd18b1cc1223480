// Python face of the GPU's kernels, and of their host twin: addresses and sizes in, nothing out.
//
// Compiled twice: into _cuda, and into _core as the submodule `cuda_twin`. Addresses are plain
// integers, since nothing else than torch knows the memory and the stream; `edgetl.native.cuda`
// checks what they point to. Sizes that decide how far a kernel reads are checked here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "bindings.h"
#include "definition.h"
#include "edgetl/cuda_features.h"
#include "edgetl/cuda_neighbours.h"
#include "edgetl/cuda_preprocess.h"

namespace nb = nanobind;

namespace {

using edgetl::gpu::Number;
using edgetl::gpu::Photo;
using edgetl::gpu::Queue;

constexpr std::size_t kColumns = sizeof(Photo) / sizeof(std::int64_t);
using Table = nb::ndarray<std::int64_t, nb::shape<-1, kColumns>, nb::c_contig, nb::device::cpu>;
using Address = std::uintptr_t;
using Three = std::array<double, 3>;

Number parse_number(std::string_view name) {
    if (name == "float32") return Number::kFloat32;
    if (name == "float16") return Number::kFloat16;
    if (name == "bfloat16") return Number::kBfloat16;
    if (name == "uint8") return Number::kUint8;
    throw std::invalid_argument("numbers must be float32, float16, bfloat16 or uint8, got '" +
                                std::string(name) + "'");
}

Number parse_float(std::string_view name) {
    const Number number = parse_number(name);
    if (number == Number::kUint8) throw std::invalid_argument("uint8 is no type of features");
    return number;
}

template <typename T = void>
T* pointer(Address address, std::size_t alignment, const char* what) {
    if (address == 0 || address % alignment != 0)
        throw std::invalid_argument(std::string(what) + " must be at a multiple of " +
                                    std::to_string(alignment) + " bytes, not at " +
                                    std::to_string(address));
    return reinterpret_cast<T*>(address);
}

edgetl::Definition checked(std::int64_t size, std::int64_t resize, bool bicubic, bool nhwc,
                           bool squash, const Three& mean, const Three& std) {
    if (size < 1 || size > resize || resize > 16384)
        throw std::invalid_argument("need 1 <= size <= resize <= 16384, got size=" +
                                    std::to_string(size) + ", resize=" + std::to_string(resize));
    return define(size, resize, bicubic, nhwc, squash, mean, std);
}

// The rows of a table whose first five columns are given, and whether they lie within the buffer.
Photo* photos(const Table& table, std::int64_t bytes) {
    auto* rows = reinterpret_cast<Photo*>(table.data());
    if (table.shape(0) == 0) throw std::invalid_argument("a batch needs at least one photo");
    for (std::size_t i = 0; i < table.shape(0); ++i) {
        const Photo& photo = rows[i];
        const std::int64_t most = edgetl::kMaxSide;
        const bool sides =
            photo.height >= 1 && photo.width >= 1 && photo.height <= most && photo.width <= most;
        const std::int64_t line = photo.plane == 0 ? 3 * photo.width : photo.width;
        if (!sides || photo.offset < 0 || photo.offset > bytes || photo.stride < line ||
            photo.stride > bytes || photo.plane < 0 || photo.plane > bytes ||
            2 * photo.plane + (photo.height - 1) * photo.stride + line > bytes - photo.offset)
            throw std::invalid_argument(
                "photo " + std::to_string(i) + " of " + std::to_string(photo.height) + " x " +
                std::to_string(photo.width) + " pixels at byte " + std::to_string(photo.offset) +
                " with rows " + std::to_string(photo.stride) + " bytes apart does not lie within " +
                std::to_string(bytes) + " bytes");
    }
    return rows;
}

// Completes the table, and says how much workspace the batch takes.
std::size_t plan(const Table& table, std::int64_t bytes, std::int64_t size, std::int64_t resize,
                 bool bicubic, bool squash, int device) {
    const auto definition = checked(size, resize, bicubic, false, squash, {0, 0, 0}, {1, 1, 1});
    Photo* rows = photos(table, bytes);
    const auto n = static_cast<std::int64_t>(table.shape(0));
    nb::gil_scoped_release release;
    for (std::int64_t i = 0; i < n; ++i) edgetl::gpu::place(rows[i], definition);
    return plan_preprocess(rows, n, definition, edgetl::gpu::shared_limit(device)).workspace;
}

void preprocess(Address pixels, std::int64_t bytes, const Table& table, Address device_table,
                Address workspace, std::size_t workspace_bytes, Address out,
                std::string_view number_name, std::int64_t size, std::int64_t resize, bool bicubic,
                bool nhwc, bool squash, const Three& mean, const Three& std, int device,
                Address stream) {
    const auto definition = checked(size, resize, bicubic, nhwc, squash, mean, std);
    const Number number = parse_number(number_name);
    const auto n = static_cast<std::int64_t>(table.shape(0));
    const Photo* rows = photos(table, bytes);
    const auto found = plan_preprocess(rows, n, definition, edgetl::gpu::shared_limit(device));
    if (workspace_bytes < found.workspace)
        throw std::invalid_argument("the workspace has " + std::to_string(workspace_bytes) +
                                    " bytes; this batch needs " + std::to_string(found.workspace));
    const edgetl::gpu::Batch batch{pointer<const std::uint8_t>(pixels, 16, "pixels"), bytes,
                                   pointer<const Photo>(device_table, 8, "the table"), n,
                                   pointer(workspace, 16, "the workspace")};
    void* to = pointer(out, edgetl::gpu::bytes_of(number), "out");
    nb::gil_scoped_release release;
    edgetl::gpu::preprocess(batch, definition, found, number, to, Queue{device, stream});
}

void pool(Address maps, std::int64_t n, std::int64_t channels, std::int64_t positions,
          bool channels_last, std::string_view number_name, bool unit, Address out,
          std::string_view out_name, int device, Address stream) {
    const Number number = parse_float(number_name), wanted = parse_float(out_name);
    const edgetl::gpu::Maps what{pointer<const void>(maps, edgetl::gpu::bytes_of(number), "maps"),
                                 n,
                                 channels,
                                 positions,
                                 channels_last,
                                 number};
    void* to = pointer(out, edgetl::gpu::bytes_of(wanted), "out");
    nb::gil_scoped_release release;
    edgetl::gpu::pool(what, unit, wanted, to, Queue{device, stream});
}

edgetl::gpu::Search describe(std::int64_t n, std::int64_t rows, std::int64_t dim,
                             std::string_view number_name, std::int64_t k) {
    return {nullptr, n, nullptr, rows, dim, parse_float(number_name), k};
}

std::size_t nearest_workspace(std::int64_t n, std::int64_t rows, std::int64_t dim,
                              std::string_view number_name, std::int64_t k) {
    return edgetl::gpu::nearest_workspace(describe(n, rows, dim, number_name, k));
}

void nearest(Address queries, std::int64_t n, Address memory, std::int64_t rows, std::int64_t dim,
             std::string_view number_name, std::int64_t k, Address workspace,
             std::size_t workspace_bytes, Address indices, Address similarities, int device,
             Address stream) {
    auto search = describe(n, rows, dim, number_name, k);
    const std::size_t needed = edgetl::gpu::nearest_workspace(search);
    if (workspace_bytes < needed)
        throw std::invalid_argument("the workspace has " + std::to_string(workspace_bytes) +
                                    " bytes; this search needs " + std::to_string(needed));
    const std::size_t alignment = edgetl::gpu::bytes_of(search.number);
    search.queries = pointer<const void>(queries, alignment, "queries");
    search.memory = pointer<const void>(memory, alignment, "memory");
    void* lists = pointer(workspace, 8, "the workspace");
    auto* to = pointer<std::int64_t>(indices, 8, "indices");
    auto* products = pointer<float>(similarities, 4, "similarities");
    nb::gil_scoped_release release;
    edgetl::gpu::nearest(search, lists, to, products, Queue{device, stream});
}

}  // namespace

void register_cuda(nb::module_& module) {
    module.def("device_count", &edgetl::gpu::device_count, "How many GPUs there are.");
    module.def("why_no_device", &edgetl::gpu::why_no_device, "What the runtime says if none.");
    module.def("plan", &plan, nb::arg("table").noconvert(), nb::arg("bytes"), nb::arg("size"),
               nb::arg("resize"), nb::arg("bicubic"), nb::arg("squash"), nb::arg("device"),
               "Complete a table of photos; bytes of workspace.");
    module.def("preprocess", &preprocess, nb::arg("pixels"), nb::arg("bytes"),
               nb::arg("table").noconvert(), nb::arg("device_table"), nb::arg("workspace"),
               nb::arg("workspace_bytes"), nb::arg("out"), nb::arg("number"), nb::arg("size"),
               nb::arg("resize"), nb::arg("bicubic"), nb::arg("nhwc"), nb::arg("squash"),
               nb::arg("mean"), nb::arg("std"), nb::arg("device"), nb::arg("stream"),
               "Queue the preprocessing of a batch.");
    module.def("pool", &pool, nb::arg("maps"), nb::arg("n"), nb::arg("channels"),
               nb::arg("positions"), nb::arg("channels_last"), nb::arg("number"), nb::arg("unit"),
               nb::arg("out"), nb::arg("out_number"), nb::arg("device"), nb::arg("stream"),
               "Queue the pooling of a batch.");
    module.def("nearest_workspace", &nearest_workspace, nb::arg("n"), nb::arg("rows"),
               nb::arg("dim"), nb::arg("number"), nb::arg("k"), "Bytes that `nearest` needs.");
    module.def("nearest", &nearest, nb::arg("queries"), nb::arg("n"), nb::arg("memory"),
               nb::arg("rows"), nb::arg("dim"), nb::arg("number"), nb::arg("k"),
               nb::arg("workspace"), nb::arg("workspace_bytes"), nb::arg("indices"),
               nb::arg("similarities"), nb::arg("device"), nb::arg("stream"),
               "Queue the search of the nearest rows.");
}
