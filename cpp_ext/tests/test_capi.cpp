// The C library as a program calls it: frames against plain loops over BT.601's real numbers, heads
// against a softmax in long double, and what is refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "capi_files.h"
#include "check.h"
#include "edgetl.h"
#include "edgetl/preprocess.h"
#include "random.h"

#define SAME(left, right) CHECK_EQUAL(left, right, edgetl_last_error())

namespace {

using Bytes = std::vector<std::uint8_t>;

edgetl_preprocess_options options_of(std::int32_t size, std::int32_t resize) {
    edgetl_preprocess_options options{};
    options.struct_size = sizeof options;
    options.size = size;
    options.resize = resize;
    options.layout = EDGETL_NHWC;
    options.dtype = EDGETL_UINT8;
    std::fill(options.std, options.std + 3, 1.0f);
    return options;
}

// A frame of random bytes with gaps behind its rows, and the memory it lies in.
struct Camera {
    edgetl_frame frame{};
    Bytes planes[2];

    Camera(check::Random& random, std::int32_t format, std::int32_t height, std::int32_t width,
           bool bottom_up) {
        frame.struct_size = sizeof frame;
        frame.format = format;
        frame.height = height;
        frame.width = width;
        const bool yuv = format >= EDGETL_NV12;
        const std::int64_t step = yuv ? 1 : format <= EDGETL_BGR ? 3 : 4;
        add(random, 0, height, step * width, bottom_up);
        if (yuv) add(random, 1, (height + 1) / 2, 2 * ((width + 1) / 2), bottom_up);
    }

    void add(check::Random& random, int plane, std::int64_t rows, std::int64_t row,
             bool bottom_up) {
        const std::int64_t stride = row + 5;
        // Not a byte more than the frame has: sanitizers see every read beyond.
        planes[plane] = check::random_bytes(random, (rows - 1) * stride + row);
        frame.planes[plane] = planes[plane].data() + (bottom_up ? (rows - 1) * stride : 0);
        frame.strides[plane] = bottom_up ? -stride : stride;
    }

    // Of the upright frame, packed; YUV by the formula's real numbers.
    Bytes rgb() const {
        const int turns = frame.rotation / 90;
        const bool sideways = turns % 2 == 1;
        const int height = sideways ? frame.width : frame.height;
        const int width = sideways ? frame.height : frame.width;
        Bytes result;
        for (int row = 0; row < height; ++row)
            for (int column = 0; column < width; ++column) {
                int y = row, x = column;
                if (turns == 1) y = frame.height - 1 - column, x = row;
                if (turns == 2) y = frame.height - 1 - row, x = frame.width - 1 - column;
                if (turns == 3) y = column, x = frame.width - 1 - row;
                pixel(y, x, result);
            }
        return result;
    }

    void pixel(int y, int x, Bytes& to) const {
        const std::uint8_t* first = frame.planes[0] + y * frame.strides[0];
        if (frame.format < EDGETL_NV12) {
            const std::uint8_t* p = first + x * (frame.format <= EDGETL_BGR ? 3 : 4);
            const bool red_first = frame.format == EDGETL_RGB || frame.format == EDGETL_RGBA;
            to.insert(to.end(), {p[red_first ? 0 : 2], p[1], p[red_first ? 2 : 0]});
            return;
        }
        const std::uint8_t* pair = frame.planes[1] + y / 2 * frame.strides[1] + x / 2 * 2;
        const int swap = frame.format == EDGETL_NV21;
        const bool full = frame.range == EDGETL_FULL;
        const double light = full ? first[x] : (first[x] - 16) * 255.0 / 219;
        const double scale = full ? 1 : 255.0 / 224;
        const double u = (pair[swap] - 128) * scale, v = (pair[1 - swap] - 128) * scale;
        const double red = light + 1.402 * v, blue = light + 1.772 * u;
        const double green = (light - 0.299 * red - 0.114 * blue) / 0.587;
        for (const double value : {red, green, blue})
            to.push_back(
                static_cast<std::uint8_t>(std::floor(std::clamp(value, 0.0, 255.0) + 0.5)));
    }
};

Bytes preprocessed(const edgetl_frame& frame, const edgetl_preprocess_options& options) {
    size_t bytes = 0;
    SAME(edgetl_preprocess_bytes(&options, &bytes), EDGETL_OK);
    Bytes out(bytes);
    const edgetl_status status = edgetl_preprocess(&frame, &options, out.data(), out.size());
    SAME(status, EDGETL_OK);
    return out;
}

edgetl_status load(const std::string& file, edgetl_head** head) {
    // In memory of just that size, at an odd address.
    const Bytes bytes = [&] {
        Bytes copy(1);
        copy.insert(copy.end(), file.begin(), file.end());
        return copy;
    }();
    return edgetl_head_load_memory(bytes.data() + 1, file.size(), head);
}

edgetl_status refused(const std::string& file) {
    edgetl_head* head = reinterpret_cast<edgetl_head*>(1);
    const edgetl_status status = load(file, &head);
    CHECK(head == nullptr);
    CHECK(*edgetl_last_error() != '\0');
    edgetl_head_free(head);
    return status;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    CHECK(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

}  // namespace

TEST(frames_of_every_format_and_rotation_become_rgb) {
    check::Random random(1);
    for (int format = EDGETL_RGB; format <= EDGETL_NV21; ++format)
        for (int rotation = 0; rotation < 360; rotation += 90)
            for (const int range : {EDGETL_LIMITED, EDGETL_FULL})
                for (const bool bottom_up : {false, true}) {
                    // One side equal to the output's: the crop is the middle, nothing is resized.
                    Camera camera(random, format, 21, 33, bottom_up);
                    camera.frame.rotation = rotation;
                    camera.frame.range = range;
                    const Bytes rgb = camera.rgb();
                    edgetl_frame plain{};
                    plain.struct_size = sizeof plain;
                    plain.format = EDGETL_RGB;
                    plain.height = rotation % 180 == 0 ? 21 : 33;
                    plain.width = rotation % 180 == 0 ? 33 : 21;
                    plain.planes[0] = rgb.data();
                    const auto crop = options_of(21, 21);
                    const Bytes expected = preprocessed(plain, crop);
                    const Bytes actual = preprocessed(camera.frame, crop);
                    int worst = 0;
                    for (std::size_t i = 0; i < actual.size(); ++i)
                        worst = std::max(worst, std::abs(expected[i] - actual[i]));
                    // Fixed point rounds a value near a half the other way, once in hundreds.
                    CHECK(worst <= (format >= EDGETL_NV12 ? 1 : 0));
                }
}

TEST(outputs_equal_the_core_to_the_bit) {
    check::Random random(2);
    const Camera camera(random, EDGETL_RGB, 61, 47, false);
    const Camera mirror = [&] {  // the same pixels, as BGRA
        Camera copy(random, EDGETL_BGRA, 61, 47, false);
        for (int y = 0; y < 61; ++y)
            for (int x = 0; x < 47; ++x)
                for (int c = 0; c < 3; ++c)
                    copy.planes[0][y * copy.frame.strides[0] + 4 * x + 2 - c] =
                        camera.planes[0][y * camera.frame.strides[0] + 3 * x + c];
        copy.frame.planes[0] = copy.planes[0].data();
        return copy;
    }();
    edgetl::Definition definition{};
    definition.size = 24;
    definition.resize = 29;
    const edgetl::Dtype dtypes[] = {edgetl::Dtype::kFloat32, edgetl::Dtype::kFloat16,
                                    edgetl::Dtype::kUint8};
    for (int choice = 0; choice < 24; ++choice) {
        auto options = options_of(24, 29);
        options.interpolation = choice & 1;
        options.fit = choice >> 1 & 1;
        options.layout = choice >> 2 & 1;
        options.dtype = choice / 8;
        options.threads = 1 + choice % 3;
        definition.filter = choice & 1 ? edgetl::Filter::kBilinear : edgetl::Filter::kBicubic;
        definition.fit = choice & 2 ? edgetl::Fit::kSquash : edgetl::Fit::kShortest;
        definition.layout = choice & 4 ? edgetl::Layout::kNhwc : edgetl::Layout::kNchw;
        definition.dtype = dtypes[choice / 8];
        for (int c = 0; c < 3; ++c) {
            options.mean[c] = definition.mean[c] = 0.4f + 0.05f * static_cast<float>(c);
            options.std[c] = definition.std[c] = 0.2f + 0.01f * static_cast<float>(c);
        }
        Bytes expected(static_cast<std::size_t>(edgetl::output_bytes(definition)));
        edgetl::preprocess(
            edgetl::whole_image(camera.planes[0].data(), 61, 47, camera.frame.strides[0]),
            definition, expected.data(), 1, edgetl::Isa::kPortable);
        CHECK(preprocessed(camera.frame, options) == expected);
        CHECK(preprocessed(mirror.frame, options) == expected);
    }
}

TEST(bad_frames_and_options_are_refused) {
    check::Random random(3);
    const Camera camera(random, EDGETL_NV12, 8, 10, false);
    const auto options = options_of(4, 4);
    Bytes out(48);
    const auto status = [&](auto&& change, std::size_t bytes = 48) {
        edgetl_frame frame = camera.frame;
        edgetl_preprocess_options changed = options;
        change(frame, changed);
        return edgetl_preprocess(&frame, &changed, out.data(), bytes);
    };
    using F = edgetl_frame;
    using O = edgetl_preprocess_options;
    const std::int64_t least = std::numeric_limits<std::int64_t>::min();
    SAME(status([](F&, O&) {}), EDGETL_OK);
    SAME(status([](F&, O&) {}, 47), EDGETL_INVALID);
    SAME(std::string(edgetl_last_error()), std::string("out has 47 bytes, needs 48"));
    SAME(status([](F& f, O&) { f.struct_size = 8; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.struct_size = std::size_t{1} << 40; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.format = 0; }), EDGETL_UNSUPPORTED);
    SAME(status([](F& f, O&) { f.format = 7; }), EDGETL_UNSUPPORTED);
    SAME(status([](F& f, O&) { f.range = 2; }), EDGETL_UNSUPPORTED);
    SAME(status([](F& f, O&) { f.reserved = 1; }), EDGETL_UNSUPPORTED);
    SAME(status([](F& f, O&) { f.rotation = 45; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.width = 0; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.height = -1; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.height = 1 << 30; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.planes[1] = nullptr; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.strides[0] = 9; }), EDGETL_INVALID);
    SAME(status([](F& f, O&) { f.strides[1] = -9; }), EDGETL_INVALID);
    SAME(status([=](F& f, O&) { f.strides[1] = least; }), EDGETL_INVALID);
    SAME(status([](F&, O& o) { o.size = 5; }), EDGETL_INVALID);
    SAME(status([](F&, O& o) { o.std[1] = 0; }), EDGETL_INVALID);
    SAME(status([](F&, O& o) { o.threads = -1; }), EDGETL_INVALID);
    SAME(status([](F&, O& o) { o.dtype = 3; }), EDGETL_UNSUPPORTED);
    SAME(status([](F&, O& o) { o.fit = -1; }), EDGETL_UNSUPPORTED);
    SAME(edgetl_preprocess(nullptr, &options, out.data(), 48), EDGETL_INVALID);
    SAME(edgetl_preprocess(&camera.frame, nullptr, out.data(), 48), EDGETL_INVALID);
    SAME(edgetl_preprocess(&camera.frame, &options, nullptr, 48), EDGETL_INVALID);
    SAME(edgetl_preprocess_bytes(&options, nullptr), EDGETL_INVALID);
    auto floats = options;
    floats.dtype = EDGETL_FLOAT32;
    alignas(8) std::uint8_t odd[200];
    SAME(edgetl_preprocess(&camera.frame, &floats, odd + 1, 199), EDGETL_INVALID);
}

TEST(structures_of_newer_programs_are_taken_if_what_is_new_is_zero) {
    struct {
        edgetl_preprocess_options options;
        std::int64_t news;
    } newer{options_of(4, 4), 0};
    newer.options.struct_size = sizeof newer;
    size_t bytes = 0;
    SAME(edgetl_preprocess_bytes(&newer.options, &bytes), EDGETL_OK);
    SAME(bytes, size_t{48});
    newer.news = 1;
    SAME(edgetl_preprocess_bytes(&newer.options, &bytes), EDGETL_UNSUPPORTED);
    SAME(edgetl_abi_version(), std::uint32_t{EDGETL_ABI_VERSION});
}

TEST(heads_give_the_softmax_of_their_scores) {
    const std::vector<float> features{1, 2, -0.5f, 0.75f};
    for (const std::string kind : {"F32", "F64"}) {
        edgetl_head* head = nullptr;
        SAME(load(check::head_file(kind), &head), EDGETL_OK);
        SAME(edgetl_head_classes(head), size_t{3});
        SAME(edgetl_head_features(head), size_t{2});
        const std::int64_t* labels = edgetl_head_labels(head);
        CHECK(labels != nullptr && labels[0] == -5 && labels[1] == 0 && labels[2] == 7);
        std::vector<double> out(6);
        SAME(edgetl_head_probabilities(head, features.data(), 2, 2, out.data(), 6), EDGETL_OK);
        for (int row = 0; row < 2; ++row) {
            long double sum = 0, shares[3];
            for (int c = 0; c < 3; ++c) {
                const long double score = check::kCoef[2 * c] * features[2 * row] +
                                          check::kCoef[2 * c + 1] * features[2 * row + 1] +
                                          check::kIntercept[c];
                sum += shares[c] = std::exp(score / check::kTemperature);
            }
            for (int c = 0; c < 3; ++c)
                CHECK(std::abs(out[3 * row + c] - shares[c] / sum) < 1e-14L);
        }
        SAME(edgetl_head_probabilities(head, features.data(), 2, 2, out.data(), 5), EDGETL_INVALID);
        SAME(edgetl_head_probabilities(head, features.data(), 1, 3, out.data(), 6), EDGETL_INVALID);
        const auto most = std::numeric_limits<std::size_t>::max();
        SAME(edgetl_head_probabilities(head, features.data(), most, 2, out.data(), most),
             EDGETL_INVALID);
        SAME(edgetl_head_probabilities(head, nullptr, 0, 2, nullptr, 0), EDGETL_OK);
        const std::vector<float> bad{1, std::numeric_limits<float>::quiet_NaN()};
        SAME(edgetl_head_probabilities(head, bad.data(), 1, 2, out.data(), 6), EDGETL_NOT_FINITE);
        edgetl_head_free(head);
    }
    edgetl_head_free(nullptr);
    SAME(edgetl_head_classes(nullptr), size_t{0});
}

TEST(files_with_anything_amiss_are_refused) {
    const std::string header = check::head_header("F32"), data = check::head_data("F32");
    const std::string file = check::safetensors(header, data);
    for (std::size_t length = 0; length < file.size(); ++length)
        SAME(refused(file.substr(0, length)), EDGETL_CORRUPT);
    SAME(refused(file + "x"), EDGETL_CORRUPT);
    const auto with = [&](const std::string& from, const std::string& to) {
        return refused(check::safetensors(replaced(header, from, to), data));
    };
    SAME(with("{\"classes", "[\"classes"), EDGETL_CORRUPT);
    SAME(with("[3,2]", "[2,3]"), EDGETL_CORRUPT);  // no longer one intercept per row
    SAME(with("[3,2]", "[3,9007199254740992]"), EDGETL_CORRUPT);
    SAME(with("[3,2]", "[99999999999999999999,2]"), EDGETL_CORRUPT);
    SAME(with("[3,2]", "[3,2,1]"), EDGETL_UNSUPPORTED);
    SAME(with("[3,2]", "[03,2]"), EDGETL_CORRUPT);
    SAME(with("[3,2]", "[-3,2]"), EDGETL_CORRUPT);
    SAME(with("[3,2]", "[3,[2]]"), EDGETL_CORRUPT);
    SAME(with("[40,64]", "[39,64]"), EDGETL_CORRUPT);
    SAME(with("[40,64]", "[64,40]"), EDGETL_CORRUPT);
    SAME(with("[40,64]", "[40]"), EDGETL_CORRUPT);
    SAME(with("\"strength", "\"coef"), EDGETL_CORRUPT);       // twice
    SAME(with("\"strength", "\"scale"), EDGETL_UNSUPPORTED);  // another kind of head
    SAME(with("\"strength", "\"\\u0073trength"), EDGETL_UNSUPPORTED);
    SAME(with("\"I64\"", "\"F64\""), EDGETL_CORRUPT);
    SAME(with("\"I64\"", "\"BOOL\""), EDGETL_CORRUPT);  // of another width
    SAME(with("\"I64\"", "\"U64\""), EDGETL_UNSUPPORTED);
    SAME(with("\"I64\"", "\"F8\""), EDGETL_UNSUPPORTED);
    SAME(with("\"shape\"", "\"dtype\""), EDGETL_CORRUPT);
    SAME(refused(check::safetensors(header + "}", data)), EDGETL_CORRUPT);
    SAME(refused(check::safetensors("{}", "")), EDGETL_CORRUPT);
    SAME(refused(check::safetensors(std::string(1 << 17, '['), "")), EDGETL_UNSUPPORTED);
    const auto number = [&](std::size_t at, double value) {
        return refused(check::safetensors(
            header, std::string(data).replace(at, 8, check::raw(std::vector<double>{value}))));
    };
    SAME(number(32, 0), EDGETL_CORRUPT);
    SAME(number(24, -1), EDGETL_CORRUPT);
    SAME(number(32, std::numeric_limits<double>::infinity()), EDGETL_CORRUPT);
    const std::string nan = check::raw(std::vector<float>{std::nanf("")});
    SAME(refused(check::safetensors(header, std::string(data).replace(44, 4, nan))),
         EDGETL_CORRUPT);
    const std::string falling = check::raw(std::vector<std::int64_t>{1, 0, 7});
    SAME(refused(check::safetensors(header, std::string(data).replace(0, 24, falling))),
         EDGETL_CORRUPT);
    edgetl_head* head = nullptr;
    SAME(edgetl_head_load_file("/nonexistent/head", &head), EDGETL_IO);
    SAME(edgetl_head_load_file("/", &head), EDGETL_IO);
    SAME(edgetl_head_load_file(nullptr, &head), EDGETL_INVALID);
    SAME(edgetl_head_load_memory(file.data(), file.size(), nullptr), EDGETL_INVALID);
}

TEST(spaces_and_metadata_are_read_over) {
    const std::string header = "{\"__metadata__\" : {\"a\\\"\":\"{[\", \"b\":\"\"}, " +
                               check::head_header("F64").substr(1) + " \n  ";
    edgetl_head* head = nullptr;
    SAME(load(check::safetensors(header, check::head_data("F64")), &head), EDGETL_OK);
    edgetl_head_free(head);
}

TEST(every_thread_has_its_own_error) {
    size_t bytes = 0;
    SAME(edgetl_preprocess_bytes(nullptr, &bytes), EDGETL_INVALID);
    const std::string mine = edgetl_last_error();
    std::string at_first = "?", after;
    std::thread([&] {
        at_first = edgetl_last_error();
        edgetl_preprocess_bytes(nullptr, nullptr);
        after = edgetl_last_error();
    }).join();
    SAME(at_first, std::string());
    CHECK(after != mine);
    SAME(std::string(edgetl_last_error()), mine);
}
