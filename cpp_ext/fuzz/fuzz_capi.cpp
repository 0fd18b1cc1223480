// Fuzzes the C library: files of heads, given as they are or made from a good one with places
// changed, and camera frames with any numbers in them. All must be taken or refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "capi_files.h"
#include "edgetl.h"
#include "input.h"

namespace {

void read_head(const std::string& file) {
    edgetl_head* head = nullptr;
    const std::vector<char> exact(file.begin(), file.end());  // sanitizers see reads beyond
    const char nothing = 0;
    const auto status =
        edgetl_head_load_memory(exact.empty() ? &nothing : exact.data(), exact.size(), &head);
    fuzz::require((status == EDGETL_OK) == (head != nullptr), "a head or a refusal");
    fuzz::require(status == EDGETL_OK || status == EDGETL_CORRUPT || status == EDGETL_UNSUPPORTED,
                  "a file is corrupt or not supported");
    if (head == nullptr) return;
    const std::size_t classes = edgetl_head_classes(head), dim = edgetl_head_features(head);
    fuzz::require(classes >= 2 && dim >= 1 && classes * dim * 4 <= file.size(),
                  "a head is as large as its file");
    const std::vector<float> features(dim, 0.5f);
    std::vector<double> out(classes);
    const auto scored =
        edgetl_head_probabilities(head, features.data(), 1, dim, out.data(), out.size());
    fuzz::require(scored == EDGETL_OK || scored == EDGETL_NOT_FINITE, "a head scores");
    double sum = 0;
    for (const double value : out) sum += value;
    fuzz::require(scored != EDGETL_OK || std::abs(sum - 1) < 1e-9, "probabilities sum to 1");
    edgetl_head_free(head);
}

void change_head(fuzz::Input& input) {
    const std::string kind = input.coin() ? "F32" : "F64";
    std::string header = check::head_header(kind), data = check::head_data(kind);
    static const char kTokens[] = "{}[]\",:0123456789 \\eE-.F";
    for (std::int64_t left = input.between(0, 4); left > 0; --left) {
        std::string& text = input.between(0, 3) > 0 ? header : data;
        const auto at = static_cast<std::size_t>(input.between(0, text.size() - 1));
        switch (input.between(0, 3)) {
            case 0:
                text[at] = kTokens[input.between(0, sizeof kTokens - 2)];
                break;
            case 1:
                text[at] = input.take<char>();
                break;
            case 2:
                text.insert(at, text.substr(at, input.between(1, 60)));
                break;
            default:
                if (text.size() > 64) text.erase(at, input.between(1, 20));
        }
        if (text.empty()) return;
    }
    read_head(check::safetensors(header, data));
}

void frame(fuzz::Input& input) {
    edgetl_frame frame{};
    frame.struct_size = sizeof frame;
    frame.format = static_cast<std::int32_t>(input.between(0, 7));
    frame.range = static_cast<std::int32_t>(input.between(0, 2));
    const auto side = [&] {  // clamped: the limits of the header's types are its own
        return static_cast<std::int32_t>(
            std::clamp<std::int64_t>(input.size(60, 1 << 20), -5, (1 << 20) + 1));
    };
    frame.width = side();
    frame.height = side();
    frame.rotation = static_cast<std::int32_t>(90 * input.between(-1, 4));
    // As large as the frame says, if that is little; otherwise it has to be refused by its stride.
    const bool small =
        frame.width >= 1 && frame.height >= 1 && frame.width <= 60 && frame.height <= 60;
    std::vector<std::uint8_t> planes[2];
    for (int plane = 0; plane < 2; ++plane) {
        const bool yuv = frame.format >= EDGETL_NV12;
        const std::int64_t rows = plane == 0 ? frame.height : (frame.height + 1) / 2;
        const std::int64_t pixel = yuv ? 1 : frame.format <= EDGETL_BGR ? 3 : 4;
        const std::int64_t row = plane == 0 ? pixel * frame.width : (frame.width + 1) / 2 * 2;
        const std::int64_t stride = small ? row + input.between(0, 9) : 1;
        planes[plane].resize(small ? (rows - 1) * stride + row : 1, input.take<std::uint8_t>());
        const bool bottom_up = small && input.coin();
        frame.planes[plane] = planes[plane].data() + (bottom_up ? (rows - 1) * stride : 0);
        frame.strides[plane] = bottom_up ? -stride : stride;
    }
    edgetl_preprocess_options options{};
    options.struct_size = sizeof options;
    options.size = static_cast<std::int32_t>(input.between(0, 40));
    options.resize = static_cast<std::int32_t>(input.between(1, 60));
    options.interpolation = static_cast<std::int32_t>(input.between(0, 2));
    options.fit = static_cast<std::int32_t>(input.between(0, 1));
    options.layout = static_cast<std::int32_t>(input.between(0, 1));
    options.dtype = static_cast<std::int32_t>(input.between(0, 3));
    for (float& value : options.mean) value = input.number<float>(0, 1);
    for (float& value : options.std) value = input.number<float>(0.01, 1);
    std::size_t bytes = 0;
    if (edgetl_preprocess_bytes(&options, &bytes) != EDGETL_OK) bytes = 0;
    std::vector<float> out(bytes / sizeof(float) + 1);
    const auto status = edgetl_preprocess(&frame, &options, out.data(), bytes);
    fuzz::require(status == EDGETL_OK || status == EDGETL_INVALID || status == EDGETL_UNSUPPORTED,
                  "a frame is taken or refused");
    fuzz::require(status != EDGETL_OK || (small && bytes > 0), "what is taken has pixels");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    switch (input.between(0, 2)) {
        case 0:
            read_head({reinterpret_cast<const char*>(data), size});
            break;
        case 1:
            change_head(input);
            break;
        default:
            frame(input);
    }
    return 0;
}
