// Fuzzes what reads JPEG files: whatever they say of themselves, nothing beyond their end is read,
// and what is decoded lies where it should. Without EDGETL_TEST_LIBJPEG, which names a
// libjpeg-turbo of version 3, only headers are read.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "edgetl/jpeg.h"
#include "edgetl/photo.h"
#include "input.h"

namespace {

#include "jpegs.inc"

const edgetl::Bytes kFiles[] = {{kBaseline, sizeof kBaseline},
                                {kProgressive, sizeof kProgressive},
                                {kGrey, sizeof kGrey},
                                {kTurned, sizeof kTurned}};

std::shared_ptr<const edgetl::JpegLibrary> library() {
    static const char* path = std::getenv("EDGETL_TEST_LIBJPEG");
    static const auto opened =
        path == nullptr || *path == 0 ? nullptr : std::make_shared<const edgetl::JpegLibrary>(path);
    return opened;
}

// A good file with a few bytes changed, its end cut off, or something put in.
std::vector<std::uint8_t> damaged(fuzz::Input& input) {
    const edgetl::Bytes& file = kFiles[input.between(0, 3)];
    std::vector<std::uint8_t> result(file.data, file.data + file.size);
    for (std::int64_t change = input.between(0, 6); change > 0; --change) {
        const std::int64_t at = input.between(0, static_cast<std::int64_t>(result.size()) - 1);
        switch (input.between(0, 5)) {
            case 0:
                if (at > 0) result.resize(at);
                break;
            case 1: {
                std::vector<std::uint8_t> more(input.between(0, 40));
                for (std::uint8_t& byte : more) byte = input.take<std::uint8_t>();
                result.insert(result.begin() + at, more.begin(), more.end());
                break;
            }
            case 2:
                result[at] = 0xFF;
                break;
            default:
                result[at] = input.take<std::uint8_t>();
        }
    }
    result.shrink_to_fit();
    return result;
}

// Sizes are left to what fits a fuzzer: a frame may say 65535 x 65535.
constexpr std::int64_t kMostPixels = 1 << 20;

void prepare(fuzz::Input& input, const std::vector<std::uint8_t>& file) {
    edgetl::JpegHeader header{};
    if (!edgetl::scan_jpeg(file.data(), file.size(), &header)) return;
    fuzz::require(header.orientation >= 1 && header.orientation <= 8, "orientations are 1 to 8");
    fuzz::require(header.height >= 1 && header.height <= 65535, "heights have 16 bits");
    fuzz::require(header.width >= 1 && header.width <= 65535, "widths have 16 bits");
    if (library() == nullptr || header.height * header.width > kMostPixels) return;

    edgetl::Definition definition{};
    definition.size = input.between(1, 20);
    definition.resize = definition.size + input.between(0, 20);
    definition.filter = input.coin() ? edgetl::Filter::kBicubic : edgetl::Filter::kBilinear;
    definition.fit = input.coin() ? edgetl::Fit::kShortest : edgetl::Fit::kSquash;
    definition.dtype = edgetl::Dtype::kUint8;
    for (int c = 0; c < 3; ++c) definition.std[c] = 1;
    const edgetl::Recipe recipe{definition, input.coin(), edgetl::best_isa(), library()};
    std::vector<std::uint8_t> out(edgetl::output_bytes(definition));
    edgetl::prepare_photos(recipe, {{file.data(), file.size()}}, out.data(), 1);

    const int divisor = 1 << input.between(0, 3);
    const std::int64_t height = (header.height + divisor - 1) / divisor;
    const std::int64_t width = (header.width + divisor - 1) / divisor;
    edgetl::Box wanted{input.between(0, height - 1), input.between(0, width - 1), 0, 0};
    wanted.height = input.between(1, height - wanted.top);
    wanted.width = input.between(1, width - wanted.left);
    edgetl::Scratch scratch;
    edgetl::Pixels pixels{};
    std::string message;
    const char* reason = edgetl::decode_jpeg(*library(), file.data(), file.size(), header, divisor,
                                             wanted, &scratch, &pixels, &message);
    if (reason != nullptr) {
        fuzz::require(*reason != 0, "a declined file has a reason");
        return;
    }
    const edgetl::Box& part = pixels.part;
    fuzz::require(part.top <= wanted.top && part.left <= wanted.left &&
                      part.top + part.height >= wanted.top + wanted.height &&
                      part.left + part.width >= wanted.left + wanted.width,
                  "the part covers what is wanted");
    unsigned sum = 0;
    for (std::int64_t y = 0; y < part.height; ++y)
        for (std::int64_t x = 0; x < 3 * part.width; ++x) sum += pixels.data[y * pixels.stride + x];
    fuzz::require(sum <= 255u * 3 * part.height * part.width, "the pixels can be read");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const bool raw = input.coin() && input.coin();  // mostly what looks like a JPEG file
    prepare(input, raw ? std::vector<std::uint8_t>(data, data + size) : damaged(input));
    return 0;
}
