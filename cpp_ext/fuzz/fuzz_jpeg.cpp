// Fuzzes the way from a file's bytes to pixels: the scan of the headers, and the decoding of the
// part that is needed, which must equal the same part of the whole image. What is asked for follows
// from a hash of the file, so that a corpus of plain JPEG files does.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "edgetl/jpeg.h"
#include "edgetl/photo.h"
#include "input.h"
#include "jpeg_library.h"
#include "random.h"

namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 20;  // pixels of an image worth the time

edgetl::Definition definition_of(check::Random& random) {
    edgetl::Definition definition{};
    definition.resize = random.between(1, 40);
    definition.size = random.between(1, definition.resize);
    definition.filter = random.coin() ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
    definition.layout = random.coin() ? edgetl::Layout::kNchw : edgetl::Layout::kNhwc;
    definition.fit = random.coin() ? edgetl::Fit::kShortest : edgetl::Fit::kSquash;
    definition.dtype = static_cast<edgetl::Dtype>(random.between(0, 3));
    for (int c = 0; c < 3; ++c) definition.std[c] = 1;
    return definition;
}

// A photo's needed part, made into an input.
void prepare(check::Random& random, const std::uint8_t* data, std::size_t size) {
    const edgetl::Recipe recipe{definition_of(random), random.coin(), edgetl::best_isa(),
                                check::jpeg_library()};
    edgetl::Workspace workspace;
    edgetl::Image image{};
    const char* reason = edgetl::decode_photo(recipe, data, size, &workspace, &image);
    if (reason != nullptr) {
        fuzz::require(std::strlen(reason) > 0, "a file is declined with a reason");
        return;
    }
    std::vector<std::uint8_t> out(
        static_cast<std::size_t>(edgetl::output_bytes(recipe.definition)));
    edgetl::preprocess(image, recipe.definition, out.data(), 1, recipe.isa);
}

// A part decoded alone, and with the whole image.
void compare(check::Random& random, const std::uint8_t* data, std::size_t size,
             const edgetl::JpegHeader& header) {
    const int divisor = 1 << random.between(0, 3);
    const std::int64_t height = (header.height + divisor - 1) / divisor;
    const std::int64_t width = (header.width + divisor - 1) / divisor;
    edgetl::Box wanted{random.between(0, height - 1), random.between(0, width - 1), 0, 0};
    wanted.height = random.between(1, height - wanted.top);
    wanted.width = random.between(1, width - wanted.left);
    edgetl::Scratch one, other;
    edgetl::Pixels part{}, whole{};
    std::string message;
    const edgetl::JpegLibrary& library = *check::jpeg_library();
    if (edgetl::decode_jpeg(library, data, size, header, divisor, wanted, &one, &part, &message))
        return;
    fuzz::require(part.part.top <= wanted.top && part.part.left <= wanted.left &&
                      part.part.top + part.part.height >= wanted.top + wanted.height &&
                      part.part.left + part.part.width >= wanted.left + wanted.width,
                  "the part covers what is wanted");
    if (edgetl::decode_jpeg(library, data, size, header, divisor, {0, 0, height, width}, &other,
                            &whole, &message))
        return;
    for (std::int64_t y = wanted.top; y < wanted.top + wanted.height; ++y)
        fuzz::require(std::memcmp(part.data + (y - part.part.top) * part.stride +
                                      3 * (wanted.left - part.part.left),
                                  whole.data + y * whole.stride + 3 * wanted.left,
                                  static_cast<std::size_t>(3 * wanted.width)) == 0,
                      "a part has the pixels of the whole");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of exactly its size: a sanitizer sees every read beyond it.
    const std::vector<std::uint8_t> file(data, data + size);
    check::Random random(check::fnv1a(data, size));
    edgetl::JpegHeader header{};
    if (!edgetl::scan_jpeg(file.data(), file.size(), &header)) return 0;
    fuzz::require(header.height >= 1 && header.height <= 65535 && header.width >= 1 &&
                      header.width <= 65535 && header.orientation >= 1 && header.orientation <= 8,
                  "a header that was read is in range");
    if (check::jpeg_library() == nullptr || header.height * header.width > kMost) return 0;
    prepare(random, file.data(), file.size());
    if (header.usual_sampling) compare(random, file.data(), file.size(), header);
    return 0;
}
