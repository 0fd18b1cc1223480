// A whole bundle without Python: a camera frame in, classes with their probabilities out.
//
//   classify BUNDLE FRAME WIDTH HEIGHT [rgb|bgr|rgba|bgra|nv12|nv21]
//
// edgetl prepares the frame and scores the features; onnxruntime runs the network between the two.
// What a frame needs is allocated once: the next frame is written where the last one was.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgetl.h"

namespace {

void check(edgetl_status status, const std::string& what) {
    if (status != EDGETL_OK) throw std::runtime_error(what + ": " + edgetl_last_error());
}

class Classifier {
  public:
    Classifier(const std::string& folder, int threads)
        : bundle_(open(folder), edgetl_bundle_free),
          session_(nullptr),
          input_(nullptr),
          output_(nullptr) {
        check(edgetl_bundle_check_graph(bundle_.get()), folder);
        options_.struct_size = sizeof options_;
        check(edgetl_bundle_preprocess(bundle_.get(), &options_), folder);
        size_t bytes = 0;
        check(edgetl_preprocess_bytes(&options_, &bytes), folder);
        memory_.resize(bytes);
        features_.resize(edgetl_head_features(head()));
        probabilities_.resize(edgetl_head_classes(head()));
        load(threads);
        tie();
    }

    const edgetl_head* head() const { return edgetl_bundle_head(bundle_.get()); }

    // One probability per class; the next call overwrites them.
    const std::vector<double>& operator()(const edgetl_frame& frame) {
        check(edgetl_preprocess(&frame, &options_, memory_.data(), memory_.size()), "frame");
        const char* inputs[] = {input_name_.c_str()};
        const char* outputs[] = {output_name_.c_str()};
        session_.Run(Ort::RunOptions{nullptr}, inputs, &input_, 1, outputs, &output_, 1);
        check(edgetl_head_probabilities(head(), features_.data(), 1, features_.size(),
                                        probabilities_.data(), probabilities_.size()),
              "features");
        return probabilities_;
    }

  private:
    static edgetl_bundle* open(const std::string& folder) {
        edgetl_bundle* bundle = nullptr;
        check(edgetl_bundle_open(folder.c_str(), nullptr, &bundle), folder);
        return bundle;
    }

    void load(int threads) {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(threads);
        // Between two frames no thread should spin.
        options.AddConfigEntry("session.force_spinning_stop", "1");
        session_ = Ort::Session(environment_, edgetl_bundle_graph(bundle_.get()), options);
        Ort::AllocatorWithDefaultOptions allocator;
        input_name_ = session_.GetInputNameAllocated(0, allocator).get();
        output_name_ = session_.GetOutputNameAllocated(0, allocator).get();
        for (size_t i = 1; i < session_.GetOutputCount(); ++i) {
            const std::string name = session_.GetOutputNameAllocated(i, allocator).get();
            if (name == "features") output_name_ = name;
        }
    }

    // The network reads what edgetl_preprocess writes, and writes what the head reads.
    void tie() {
        const bool bytes = options_.dtype == EDGETL_UINT8;
        const int64_t side = options_.size;
        std::array<int64_t, 4> shape = {1, 3, side, side};
        if (options_.layout == EDGETL_NHWC) shape = {1, side, side, 3};
        const std::array<int64_t, 2> row = {1, static_cast<int64_t>(features_.size())};
        const auto place = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        input_ = Ort::Value::CreateTensor(
            place, memory_.data(), memory_.size(), shape.data(), shape.size(),
            bytes ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
        output_ = Ort::Value::CreateTensor<float>(place, features_.data(), features_.size(),
                                                  row.data(), row.size());
    }

    std::unique_ptr<edgetl_bundle, void (*)(edgetl_bundle*)> bundle_;
    edgetl_preprocess_options options_{};
    std::vector<uint8_t> memory_;
    std::vector<float> features_;
    std::vector<double> probabilities_;
    Ort::Env environment_{ORT_LOGGING_LEVEL_ERROR};
    Ort::Session session_;
    Ort::Value input_, output_;
    std::string input_name_, output_name_;
};

struct Format {
    int32_t code;
    int pixel_bytes;  // 0: a plane of Y and one of pairs
};

const std::map<std::string, Format> kFormats = {
    {"rgb", {EDGETL_RGB, 3}},   {"bgr", {EDGETL_BGR, 3}},   {"rgba", {EDGETL_RGBA, 4}},
    {"bgra", {EDGETL_BGRA, 4}}, {"nv12", {EDGETL_NV12, 0}}, {"nv21", {EDGETL_NV21, 0}},
};

edgetl_frame frame_of(const std::vector<char>& pixels, int32_t width, int32_t height,
                      const Format& format) {
    if (width < 1 || height < 1 || width > 16384 || height > 16384)
        throw std::runtime_error("WIDTH and HEIGHT must be 1 to 16384");
    const size_t area = static_cast<size_t>(width) * static_cast<size_t>(height);
    const size_t pairs =
        static_cast<size_t>((width + 1) / 2) * static_cast<size_t>((height + 1) / 2);
    const size_t bytes =
        format.pixel_bytes ? area * static_cast<size_t>(format.pixel_bytes) : area + 2 * pairs;
    if (pixels.size() != bytes)
        throw std::runtime_error("the frame has " + std::to_string(pixels.size()) + " bytes, " +
                                 std::to_string(bytes) + " are needed");
    edgetl_frame frame{};
    frame.struct_size = sizeof frame;
    frame.format = format.code;
    frame.width = width;
    frame.height = height;
    frame.planes[0] = reinterpret_cast<const uint8_t*>(pixels.data());
    if (format.pixel_bytes == 0) frame.planes[1] = frame.planes[0] + area;
    return frame;
}

int run(int count, char** words) {
    const auto format = kFormats.find(count == 6 ? words[5] : "rgb");
    if ((count != 5 && count != 6) || format == kFormats.end()) {
        std::fprintf(stderr,
                     "usage: classify BUNDLE FRAME WIDTH HEIGHT [rgb|bgr|rgba|bgra|nv12|nv21]\n");
        return 2;
    }
    if (edgetl_abi_version() != EDGETL_ABI_VERSION)
        throw std::runtime_error("libedgetl is not the one this program was compiled for");
    std::ifstream file(words[2], std::ios::binary);
    if (!file) throw std::runtime_error(std::string("can't open ") + words[2]);
    const std::vector<char> pixels{std::istreambuf_iterator<char>(file), {}};

    Classifier classifier(words[1], 1);
    const auto& probabilities =
        classifier(frame_of(pixels, std::stoi(words[3]), std::stoi(words[4]), format->second));

    std::vector<size_t> order(probabilities.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });
    for (const size_t i : order) {
        const char* name = edgetl_head_name(classifier.head(), i);
        std::printf("%.9f %s\n", probabilities[i], name ? name : "?");
    }
    return 0;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "classify: %s\n", error.what());
        return 1;
    }
}
