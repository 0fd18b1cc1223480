// Reads and writes files of what heads learn on from; see learning.h.
#include "learning.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "boundary.h"
#include "edgetl/arithmetic.h"
#include "edgetl/preprocess.h"
#include "half.h"

namespace edgetl::capi {
namespace {

constexpr float kMostHalf = 65504.0f;
constexpr std::string_view kStatistics = "statistics.", kNovelty = "novelty.";

[[noreturn]] void corrupt(const std::string& text) {
    throw Failure(EDGETL_CORRUPT, "what to learn on from: " + text);
}

const Array* find(const std::vector<Array>& arrays, const std::string& name) {
    for (const Array& array : arrays)
        if (array.name == name) return &array;
    return nullptr;
}

const Array& need(const std::vector<Array>& arrays, const std::string& name, Number type,
                  std::size_t axes) {
    const Array* array = find(arrays, name);
    if (array == nullptr || array->type != type || array->shape.size() != axes)
        corrupt("there is no usable array '" + name + "'");
    return *array;
}

template <typename Value>
std::vector<Value> copied(const Array& array) {
    std::vector<Value> result(array.count);
    if (array.count > 0) std::memcpy(result.data(), array.data, array.count * sizeof(Value));
    return result;
}

Samples read_samples(const std::vector<Array>& arrays, const std::string& group, std::size_t dim,
                     std::size_t classes) {
    const Array& features = need(arrays, group + "features", Number::kF16, 2);
    const Array& codes = need(arrays, group + "codes", Number::kI64, 1);
    if (features.shape[0] != codes.count || features.shape[1] != dim)
        corrupt("features of " + std::to_string(features.shape[0]) + " x " +
                std::to_string(features.shape[1]) + " for " + std::to_string(codes.count) +
                " samples; expected " + std::to_string(dim) + " features");
    Samples samples;
    samples.dim = dim;
    const auto halves = copied<std::uint16_t>(features);
    samples.features.resize(halves.size());
    from_float16(halves.data(), static_cast<std::int64_t>(halves.size()), samples.features.data(),
                 best_isa());
    for (const float value : samples.features)
        if (!std::isfinite(value)) corrupt("'" + group + "features' holds NaN or infinity");
    samples.codes = copied<std::int64_t>(codes);
    for (const std::int64_t code : samples.codes)
        if (code < 0 || static_cast<std::uint64_t>(code) >= classes)
            corrupt("a sample of a class that is not there");
    return samples;
}

bool fits_half(const float* row, std::size_t dim) {
    for (std::size_t i = 0; i < dim; ++i)
        if (!(std::abs(row[i]) <= kMostHalf)) return false;
    return true;
}

struct Stored {
    std::vector<std::uint16_t> features;
    std::vector<std::int64_t> codes;
    std::vector<float> weights;
};

Stored stored(const Samples& samples) {
    Stored result;
    for (std::size_t i = 0; i < samples.count(); ++i) {
        const double weight = samples.weights.empty() ? 1.0 : samples.weights[i];
        const auto narrow = static_cast<float>(weight);
        if (!fits_half(samples.row(i), samples.dim) || !(narrow > 0) || !std::isfinite(narrow))
            continue;
        for (std::size_t j = 0; j < samples.dim; ++j)
            result.features.push_back(to_float16(samples.row(i)[j]));
        result.codes.push_back(samples.codes[i]);
        result.weights.push_back(narrow);
    }
    return result;
}

const Type& half_type() {
    static constexpr Type type{"F16", Number::kF16, 2};
    return type;
}

void add_samples(ArrayWriter& file, const std::string& group, const Stored& samples,
                 std::size_t dim) {
    const std::uint64_t count = samples.codes.size();
    Array features{group + "features", Number::kF16, &half_type(), {count, dim}, nullptr, 0};
    features.data = reinterpret_cast<const unsigned char*>(samples.features.data());
    features.count = samples.features.size();
    file.add(features.name, features);
    file.add(group + "codes", {count}, samples.codes.data());
}

}  // namespace

void Samples::erase(std::size_t i) {
    const auto at = static_cast<std::ptrdiff_t>(i), wide = static_cast<std::ptrdiff_t>(dim);
    features.erase(features.begin() + at * wide, features.begin() + (at + 1) * wide);
    codes.erase(codes.begin() + at);
    if (!weights.empty()) weights.erase(weights.begin() + at);
}

void Samples::forget(std::int64_t code) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count(); ++i) {
        if (codes[i] == code) continue;
        std::copy(row(i), row(i) + dim, features.begin() + static_cast<std::ptrdiff_t>(kept * dim));
        codes[kept] = codes[i] > code ? codes[i] - 1 : codes[i];
        if (!weights.empty()) weights[kept] = weights[i];
        ++kept;
    }
    features.resize(kept * dim);
    codes.resize(kept);
    if (!weights.empty()) weights.resize(kept);
}

void Samples::reserve(std::size_t more) {
    // Twice as much at a time, so that samples added one by one are not all copied every time.
    const auto grow = [](auto& values, std::size_t by) {
        if (values.capacity() - values.size() < by)
            values.reserve(std::max(values.size() + by, 2 * values.capacity()));
    };
    grow(features, more * dim);
    grow(codes, more);
    grow(weights, more);
}

LearningFile::LearningFile(std::string bytes, std::size_t dim, std::size_t classes)
    : bytes_(std::move(bytes)) {
    arrays_ = read_arrays(reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    static const char* const known[] = {"features", "codes", "weights", "guard_features",
                                        "guard_codes"};
    for (const Array& array : arrays_) {
        bool found = array.name.compare(0, kStatistics.size(), kStatistics) == 0 ||
                     array.name.compare(0, kNovelty.size(), kNovelty) == 0;
        for (const char* name : known) found = found || array.name == name;
        if (!found) corrupt("there is an array that does not belong there");
    }
    memory = read_samples(arrays_, "", dim, classes);
    guard = read_samples(arrays_, "guard_", dim, classes);
    const Array& weights = need(arrays_, "weights", Number::kF32, 1);
    if (weights.count != memory.count()) corrupt("not one weight per sample");
    for (const float weight : copied<float>(weights)) {
        if (!(weight > 0) || !std::isfinite(weight)) corrupt("weights must be positive");
        memory.weights.push_back(weight);
    }
}

bool LearningFile::has_statistics() const {
    for (const Array& array : arrays_)
        if (array.name.compare(0, kStatistics.size(), kStatistics) == 0) return true;
    return false;
}

std::vector<double> LearningFile::statistics(const std::string& name,
                                             const std::vector<std::uint64_t>& shape) const {
    const Array* array = find(arrays_, std::string(kStatistics) + name);
    if (array == nullptr || array->type != Number::kF64 || array->shape != shape)
        corrupt("there are no usable statistics '" + name + "'");
    const auto values = copied<double>(*array);
    for (const double value : values)
        if (!std::isfinite(value)) corrupt("statistics '" + name + "' hold NaN or infinity");
    return values;
}

bool LearningFile::has_statistics(const std::string& name) const {
    return find(arrays_, std::string(kStatistics) + name) != nullptr;
}

std::vector<double> LearningFile::statistics_rows(const std::string& name,
                                                  std::uint64_t dim) const {
    const Array* array = find(arrays_, std::string(kStatistics) + name);
    const std::uint64_t rows = array == nullptr || array->shape.empty() ? 0 : array->shape[0];
    return statistics(name, {rows, dim});
}

std::vector<Array> LearningFile::others() const {
    std::vector<Array> result;
    for (const Array& array : arrays_)
        if (array.name.compare(0, kNovelty.size(), kNovelty) == 0) result.push_back(array);
    return result;
}

std::string learning_bytes(const Samples& memory, const Samples& guard,
                           const std::vector<NamedNumbers>& statistics,
                           const std::vector<Array>& others) {
    ArrayWriter file;
    const Stored kept = stored(memory), judging = stored(guard);
    add_samples(file, "", kept, memory.dim);
    file.add("weights", {kept.weights.size()}, kept.weights.data());
    add_samples(file, "guard_", judging, guard.dim);
    for (const NamedNumbers& numbers : statistics)
        file.add(std::string(kStatistics) + numbers.name, numbers.shape, numbers.values.data());
    for (const Array& array : others) file.add(array.name, array);
    return file.bytes();
}

}  // namespace edgetl::capi
