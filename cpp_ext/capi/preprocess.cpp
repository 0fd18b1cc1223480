// C face of edgetl/preprocess.h: checks the structures, brings the frame to RGB, calls.
#include "edgetl/preprocess.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "boundary.h"
#include "frame.h"

namespace edgetl::capi {
namespace {

// Sizes of the first versions, written down: the structures may only grow.
constexpr std::size_t kFrame1 = offsetof(edgetl_frame, strides) + sizeof(edgetl_frame::strides);
constexpr std::size_t kOptions1 = offsetof(edgetl_preprocess_options, reserved) + 4;

struct Wanted {
    Definition definition;
    int threads;
    std::size_t bytes;
    std::size_t alignment;
};

bool either(std::int32_t value, const char* name) {
    if (value == 0 || value == 1) return value == 1;
    throw Failure(EDGETL_UNSUPPORTED, "options." + std::string(name) + " is " +
                                          std::to_string(value) + ", which is none");
}

Wanted wanted(const edgetl_preprocess_options* given) {
    const auto options = known(given, kOptions1, "edgetl_preprocess_options");
    Definition definition{};
    definition.size = options.size;
    definition.resize = options.resize;
    definition.filter =
        either(options.interpolation, "interpolation") ? Filter::kBilinear : Filter::kBicubic;
    definition.fit = either(options.fit, "fit") ? Fit::kSquash : Fit::kShortest;
    definition.layout = either(options.layout, "layout") ? Layout::kNhwc : Layout::kNchw;
    if (options.dtype == EDGETL_UINT8)
        definition.dtype = Dtype::kUint8;
    else
        definition.dtype = either(options.dtype, "dtype") ? Dtype::kFloat16 : Dtype::kFloat32;
    for (int c = 0; c < 3; ++c) {
        definition.mean[c] = options.mean[c];
        definition.std[c] = options.std[c];
    }
    if (options.reserved != 0) throw Failure(EDGETL_UNSUPPORTED, "options.reserved must be 0");
    if (options.threads < 0)
        refuse("options.threads must not be negative, got " + std::to_string(options.threads));
    const auto bytes = static_cast<std::uint64_t>(output_bytes(definition));
    if (bytes > std::numeric_limits<std::size_t>::max()) throw std::bad_alloc();
    const std::size_t alignment = static_cast<std::size_t>(output_bytes(definition) /
                                                           (3 * definition.size * definition.size));
    return {definition, options.threads == 0 ? 1 : options.threads, static_cast<std::size_t>(bytes),
            alignment};
}

void run(const edgetl_frame& frame, const Wanted& want, void* out) {
    const std::int64_t height = upright_height(frame), width = upright_width(frame);
    if (frame.format == EDGETL_RGB && frame.rotation == 0) {
        const Image image = whole_image(frame.planes[0], height, width, frame.strides[0]);
        return edgetl::preprocess(image, want.definition, out, want.threads, best_isa());
    }
    const Box part = needed(height, width, want.definition);
    const auto bytes = 3 * static_cast<std::uint64_t>(part.height * part.width);
    if (bytes > std::numeric_limits<std::size_t>::max()) throw std::bad_alloc();
    const std::unique_ptr<std::uint8_t[]> rgb(new std::uint8_t[static_cast<std::size_t>(bytes)]);
    to_rgb(frame, part, rgb.get());
    const Image image{rgb.get(), height, width, 3 * part.width, part};
    edgetl::preprocess(image, want.definition, out, want.threads, best_isa());
}

}  // namespace
}  // namespace edgetl::capi

namespace capi = edgetl::capi;

extern "C" {

edgetl_status edgetl_preprocess_bytes(const edgetl_preprocess_options* options, size_t* bytes) {
    return capi::guarded([&] {
        if (bytes == nullptr) capi::refuse("bytes is NULL");
        *bytes = capi::wanted(options).bytes;
    });
}

edgetl_status edgetl_preprocess(const edgetl_frame* frame, const edgetl_preprocess_options* options,
                                void* out, size_t out_bytes) {
    return capi::guarded([&] {
        auto pixels = capi::known(frame, capi::kFrame1, "edgetl_frame");
        capi::check(pixels);
        const capi::Wanted want = capi::wanted(options);
        if (out == nullptr) capi::refuse("out is NULL");
        if (out_bytes < want.bytes)
            capi::refuse("out has " + std::to_string(out_bytes) + " bytes, needs " +
                         std::to_string(want.bytes));
        if (reinterpret_cast<std::uintptr_t>(out) % want.alignment != 0)
            capi::refuse("out is not aligned to " + std::to_string(want.alignment) + " bytes");
        capi::run(pixels, want, out);
    });
}

}  // extern "C"
