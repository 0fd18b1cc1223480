// C face of the linear heads of edgetl/heads.h, and the one place that knows which arrays they are
// stored as: what edgetl/heads/linear.py writes.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "boundary.h"
#include "edgetl/heads.h"

using edgetl::capi::Array;
using edgetl::capi::Number;

struct edgetl_head {
    std::size_t classes = 0;
    std::size_t features = 0;
    double temperature = 1;
    std::vector<float> narrow;  // the coefficients as they are stored; the other one is empty
    std::vector<double> wide;
    std::vector<double> intercept;
    std::vector<std::int64_t> labels;
};

namespace edgetl::capi {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;

[[noreturn]] void corrupt(const std::string& text) {
    throw Failure(EDGETL_CORRUPT, "head array " + text);
}

template <typename Value>
std::vector<Value> values(const Array& array) {
    std::vector<Value> result(array.count);
    if (array.count > 0) std::memcpy(result.data(), array.data, array.count * sizeof(Value));
    if constexpr (std::numeric_limits<Value>::has_infinity)
        for (const Value value : result)
            if (!std::isfinite(value)) corrupt("'" + array.name + "' holds NaN or infinity");
    return result;
}

std::vector<double> doubles(const Array& array) {
    if (array.type == Number::kF64) return values<double>(array);
    const std::vector<float> floats = values<float>(array);
    return {floats.begin(), floats.end()};
}

// The array of this name, if it is there; of the right kind and number of axes.
const Array* find(const std::vector<Array>& arrays, const char* name, std::size_t axes,
                  bool integers) {
    for (const Array& array : arrays) {
        if (array.name != name) continue;
        if (array.shape.size() != axes || (array.type == Number::kI64) != integers)
            corrupt("'" + array.name + "' has " + std::to_string(array.shape.size()) +
                    " axes or another type, expected " + std::to_string(axes) + " axes of " +
                    (integers ? "integers" : "real numbers"));
        return &array;
    }
    return nullptr;
}

const Array& need(const std::vector<Array>& arrays, const char* name, std::size_t axes) {
    const Array* array = find(arrays, name, axes, false);
    if (array == nullptr) corrupt(std::string("'") + name + "' is missing");
    return *array;
}

double positive(const std::vector<Array>& arrays, const char* name) {
    const double value = doubles(need(arrays, name, 0)).front();
    if (!(value > 0)) corrupt(std::string("'") + name + "' must be positive");
    return value;
}

void refuse_others(const std::vector<Array>& arrays) {
    static const char* const known_names[] = {"coef", "intercept", "strength", "temperature",
                                              "classes"};
    for (const Array& array : arrays) {
        bool is_known = false;
        for (const char* name : known_names) is_known = is_known || array.name == name;
        if (!is_known)
            throw Failure(EDGETL_UNSUPPORTED,
                          "the file has arrays that no linear head has; this version scores "
                          "softmax, ridge and LDA heads");
    }
}

std::unique_ptr<edgetl_head> read_head(const unsigned char* data, std::size_t bytes) {
    if (bytes > kMostBytes)
        throw Failure(EDGETL_UNSUPPORTED,
                      "the file has " + std::to_string(bytes) + " bytes; at most 1 GiB is read");
    const std::vector<Array> arrays = read_arrays(data, bytes);
    refuse_others(arrays);
    const Array& coef = need(arrays, "coef", 2);
    const Array& intercept = need(arrays, "intercept", 1);
    auto head = std::make_unique<edgetl_head>();
    if (coef.shape[0] < 2 || coef.shape[1] < 1 || intercept.shape[0] != coef.shape[0])
        corrupt("'coef' has the shape " + std::to_string(coef.shape[0]) + " x " +
                std::to_string(coef.shape[1]) + ", 'intercept' " +
                std::to_string(intercept.shape[0]) +
                "; a row for each of at least 2 classes is needed");
    // Both are sizes of arrays that lie in memory.
    head->classes = static_cast<std::size_t>(coef.shape[0]);
    head->features = static_cast<std::size_t>(coef.shape[1]);
    if (coef.type == Number::kF32)
        head->narrow = values<float>(coef);
    else
        head->wide = values<double>(coef);
    head->intercept = doubles(intercept);
    head->temperature = positive(arrays, "temperature");
    positive(arrays, "strength");
    if (const Array* labels = find(arrays, "classes", 1, true)) {
        if (labels->count != head->classes) corrupt("'classes' must have one label per class");
        head->labels = values<std::int64_t>(*labels);
        for (std::size_t i = 1; i < head->classes; ++i)
            if (head->labels[i - 1] >= head->labels[i])
                corrupt("'classes' is not sorted and different");
    }
    return head;
}

std::vector<unsigned char> read_file(const char* path) {
    const auto close = [](std::FILE* file) { std::fclose(file); };
    const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path, "rb"), close);
    if (file == nullptr) throw Failure(EDGETL_IO, std::string("can't open ") + path);
    std::vector<unsigned char> bytes;
    unsigned char block[1 << 14];
    while (const std::size_t count = std::fread(block, 1, sizeof block, file.get())) {
        if (count > kMostBytes - bytes.size())
            throw Failure(EDGETL_UNSUPPORTED, std::string(path) + " has more than 1 GiB");
        bytes.insert(bytes.end(), block, block + count);
    }
    if (std::ferror(file.get())) throw Failure(EDGETL_IO, std::string("can't read ") + path);
    return bytes;
}

Status score(const edgetl_head& head, const float* features, std::size_t n, double* out) {
    const auto rows = static_cast<std::int64_t>(n);
    const auto dim = static_cast<std::int64_t>(head.features);
    const auto classes = static_cast<std::int64_t>(head.classes);
    if (!head.narrow.empty())
        return linear_probabilities(features, rows, dim, head.narrow.data(), head.intercept.data(),
                                    classes, head.temperature, out, best_isa());
    return linear_probabilities(features, rows, dim, head.wide.data(), head.intercept.data(),
                                classes, head.temperature, out, best_isa());
}

}  // namespace
}  // namespace edgetl::capi

namespace capi = edgetl::capi;

extern "C" {

edgetl_status edgetl_head_load_memory(const void* data, size_t bytes, edgetl_head** head) {
    if (head != nullptr) *head = nullptr;
    return capi::guarded([&] {
        if (head == nullptr || data == nullptr) capi::refuse("data or head is NULL");
        *head = capi::read_head(static_cast<const unsigned char*>(data), bytes).release();
    });
}

edgetl_status edgetl_head_load_file(const char* path, edgetl_head** head) {
    if (head != nullptr) *head = nullptr;
    return capi::guarded([&] {
        if (head == nullptr || path == nullptr) capi::refuse("path or head is NULL");
        const std::vector<unsigned char> bytes = capi::read_file(path);
        *head = capi::read_head(bytes.data(), bytes.size()).release();
    });
}

void edgetl_head_free(edgetl_head* head) {
    delete head;
}

size_t edgetl_head_classes(const edgetl_head* head) {
    return head != nullptr ? head->classes : 0;
}

size_t edgetl_head_features(const edgetl_head* head) {
    return head != nullptr ? head->features : 0;
}

const int64_t* edgetl_head_labels(const edgetl_head* head) {
    return head != nullptr && !head->labels.empty() ? head->labels.data() : nullptr;
}

edgetl_status edgetl_head_probabilities(const edgetl_head* head, const float* features, size_t n,
                                        size_t dim, double* out, size_t out_count) {
    return capi::guarded([&] {
        if (head == nullptr) capi::refuse("head is NULL");
        if (dim != head->features)
            capi::refuse("features have " + std::to_string(dim) + " values, the head takes " +
                         std::to_string(head->features));
        if (n == 0) return;
        if (features == nullptr || out == nullptr) capi::refuse("features or out is NULL");
        // Divided, since the products may be beyond any number.
        if (out_count / head->classes < n ||
            n > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / 8 / dim)
            capi::refuse("out has " + std::to_string(out_count) + " values, needs " +
                         std::to_string(n) + " x " + std::to_string(head->classes));
        if (capi::score(*head, features, n, out) != edgetl::Status::kOk)
            throw capi::Failure(EDGETL_NOT_FINITE,
                                "a feature is NaN or infinite, or a score is beyond range");
    });
}

}  // extern "C"
