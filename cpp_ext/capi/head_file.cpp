// The one place that knows which arrays heads are stored as: what the `_state` of each head in
// edgetl/heads writes and its `_restore` reads.
#include <cmath>
#include <cstring>
#include <limits>

#include "arrays.h"
#include "boundary.h"
#include "head.h"

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

std::vector<float> floats(const Array& array) {
    if (array.type == Number::kF32) return values<float>(array);
    const std::vector<double> wide = values<double>(array);
    std::vector<float> result(wide.size());
    for (std::size_t i = 0; i < wide.size(); ++i) {
        if (std::abs(wide[i]) > std::numeric_limits<float>::max())
            corrupt("'" + array.name + "' is beyond the range of float32");
        result[i] = static_cast<float>(wide[i]);
    }
    return result;
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

const Array& need(const std::vector<Array>& arrays, const char* name, std::size_t axes,
                  bool integers = false) {
    const Array* array = find(arrays, name, axes, integers);
    if (array == nullptr) corrupt(std::string("'") + name + "' is missing");
    return *array;
}

double positive(const std::vector<Array>& arrays, const char* name) {
    const double value = doubles(need(arrays, name, 0)).front();
    if (!(value > 0)) corrupt(std::string("'") + name + "' must be positive");
    return value;
}

std::int64_t integer(const std::vector<Array>& arrays, const char* name) {
    return values<std::int64_t>(need(arrays, name, 0, true)).front();
}

using Names = std::vector<const char*>;

// Whether every array is one of these, or one that all heads may have.
bool only(const std::vector<Array>& arrays, Names names) {
    names.insert(names.end(), {"temperature", "classes"});
    for (const Array& array : arrays) {
        bool known = false;
        for (const char* name : names) known = known || array.name == name;
        if (!known) return false;
    }
    return true;
}

// The shape of (rows, dim), both within memory.
void set_size(edgetl_head& head, const Array& rows) {
    head.classes = static_cast<std::size_t>(rows.shape[0]);
    head.features = static_cast<std::size_t>(rows.shape[1]);
}

void need_length(const Array& array, std::size_t count) {
    if (array.count != count)
        corrupt("'" + array.name + "' has " + std::to_string(array.count) + " values, expected " +
                std::to_string(count));
}

void read_linear(const std::vector<Array>& arrays, edgetl_head& head) {
    const Array& coef = need(arrays, "coef", 2);
    const Array& intercept = need(arrays, "intercept", 1);
    set_size(head, coef);
    need_length(intercept, head.classes);
    if (coef.type == Number::kF32)
        head.narrow = values<float>(coef);
    else
        head.wide = values<double>(coef);
    head.intercept = doubles(intercept);
    head.strength = positive(arrays, "strength");
}

void read_prototypes(const std::vector<Array>& arrays, edgetl_head& head) {
    const Array& means = need(arrays, "prototypes", 2);
    const Array& totals = need(arrays, "counts", 1);
    set_size(head, means);
    need_length(totals, head.classes);
    head.kind = EDGETL_PROTOTYPE;
    head.means = doubles(means);
    head.totals = doubles(totals);
    for (const double total : head.totals)
        if (!(total > 0)) corrupt("'counts' must be positive");
    head.scale = positive(arrays, "scale");
    head.center = integer(arrays, "center") != 0;
}

void read_neighbours(const std::vector<Array>& arrays, edgetl_head& head) {
    const Array& rows = need(arrays, "neighbors", 2);
    set_size(head, rows);
    const std::size_t n = head.classes;
    const Array& codes = need(arrays, "codes", 1, true);
    const Array& weights = need(arrays, "weights", 1);
    need_length(codes, n);
    need_length(weights, n);
    const std::int64_t classes = integer(arrays, "n_classes");
    head.kind = EDGETL_KNN;
    head.k = integer(arrays, "n_neighbors");
    if (classes < 2 || static_cast<std::uint64_t>(classes) > n || head.k < 1)
        corrupt("'neighbors' has " + std::to_string(n) + " rows for " + std::to_string(classes) +
                " classes and " + std::to_string(head.k) + " votes");
    head.classes = static_cast<std::size_t>(classes);
    head.neighbours = floats(rows);
    head.codes = values<std::int64_t>(codes);
    head.weights = doubles(weights);
    std::vector<bool> seen(head.classes);
    for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t code = head.codes[i];
        if (code < 0 || code >= classes) corrupt("'codes' names a class that is not there");
        if (!(head.weights[i] > 0)) corrupt("'weights' must be positive");
        seen[static_cast<std::size_t>(code)] = true;
    }
    for (const bool one : seen)
        if (!one) corrupt("'codes' lacks a class");
}

// As float32 unless that can't hold them, as edgetl/heads/base.py has it.
bool fits_float(const std::vector<double>& values) {
    double largest = 0;
    for (const double value : values) largest = std::max(largest, std::abs(value));
    const bool beyond = std::isinf(static_cast<float>(largest));
    return !beyond && (largest == 0 || largest >= 1e-30);
}

class Writer {
  public:
    void add(const char* name, const std::vector<double>& values,
             const std::vector<std::uint64_t>& shape, bool narrow) {
        if (!narrow || !fits_float(values)) return file_.add(name, shape, values.data());
        kept_.push_back(std::make_unique<std::vector<float>>(values.begin(), values.end()));
        file_.add(name, shape, kept_.back()->data());
    }
    ArrayWriter& file() { return file_; }

  private:
    ArrayWriter file_;
    std::vector<std::unique_ptr<std::vector<float>>> kept_;
};

}  // namespace

std::unique_ptr<edgetl_head> read_head(const unsigned char* data, std::size_t bytes) {
    if (bytes > kMostBytes)
        throw Failure(EDGETL_UNSUPPORTED,
                      "the file has " + std::to_string(bytes) + " bytes; at most 1 GiB is read");
    const std::vector<Array> arrays = read_arrays(data, bytes);
    for (const Array& array : arrays)
        if (array.type == Number::kF16 || array.type == Number::kOther || array.shape.size() > 2)
            throw Failure(EDGETL_UNSUPPORTED,
                          "an array is not of F32, F64 or I64 with at most 2 "
                          "axes; no head has another");
    auto head = std::make_unique<edgetl_head>();
    if (only(arrays, {"coef", "intercept", "strength"}))
        read_linear(arrays, *head);
    else if (only(arrays, {"prototypes", "counts", "scale", "center"}))
        read_prototypes(arrays, *head);
    else if (only(arrays, {"neighbors", "codes", "weights", "n_neighbors", "n_classes"}))
        read_neighbours(arrays, *head);
    else
        throw Failure(EDGETL_UNSUPPORTED,
                      "the file has arrays that no head has; this version knows softmax, ridge, "
                      "LDA, prototype and knn heads");
    if (head->classes < 2 || head->features < 1)
        corrupt("sizes: " + std::to_string(head->classes) + " classes of " +
                std::to_string(head->features) + " features; at least 2 and 1 are needed");
    head->temperature = positive(arrays, "temperature");
    if (const Array* labels = find(arrays, "classes", 1, true)) {
        need_length(*labels, head->classes);
        head->labels = values<std::int64_t>(*labels);
        for (std::size_t i = 1; i < head->classes; ++i)
            if (head->labels[i - 1] >= head->labels[i])
                corrupt("'classes' is not sorted and different");
    }
    finish(*head);
    return head;
}

std::string head_bytes(const edgetl_head& head) {
    Writer writer;
    ArrayWriter& file = writer.file();
    const std::vector<std::uint64_t> per_class{head.classes};
    const std::vector<std::uint64_t> rows{head.classes, head.features};
    const std::int64_t center = head.center ? 1 : 0, k = head.k;
    const auto classes = static_cast<std::int64_t>(head.classes);
    if (head.kind == EDGETL_PROTOTYPE) {
        writer.add("prototypes", head.means, rows, true);
        writer.add("counts", head.totals, per_class, false);
        file.add("scale", {}, &head.scale);
        file.add("center", {}, &center);
    } else if (head.kind == EDGETL_KNN) {
        const std::vector<std::uint64_t> samples{head.codes.size()};
        file.add("neighbors", {head.codes.size(), head.features}, head.neighbours.data());
        file.add("codes", samples, head.codes.data());
        writer.add("weights", head.weights, samples, false);
        file.add("n_neighbors", {}, &k);
        file.add("n_classes", {}, &classes);
    } else {
        if (head.wide.empty())
            file.add("coef", rows, head.narrow.data());
        else
            writer.add("coef", head.wide, rows, true);
        writer.add("intercept", head.intercept, per_class, true);
        file.add("strength", {}, &head.strength);
    }
    file.add("temperature", {}, &head.temperature);
    if (!head.labels.empty()) file.add("classes", per_class, head.labels.data());
    return file.bytes();
}

}  // namespace edgetl::capi
