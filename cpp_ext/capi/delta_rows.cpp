// Makes arrays of packed differences; see delta_rows.h.
#include "delta_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "boundary.h"
#include "sha2.h"

namespace edgetl::capi {
namespace {

constexpr std::string_view kGroup = "head.";
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
constexpr std::int32_t kRaw = -1, kMostWidth = 24, kLeastStep = -126, kMostStep = 104;

[[noreturn]] void corrupt(const std::string& text) {
    throw Failure(EDGETL_CORRUPT, "the update's arrays: " + text);
}

const Array* find(const std::vector<Array>& arrays, const std::string& name) {
    for (const Array& array : arrays)
        if (array.name == name) return &array;
    return nullptr;
}

const Array& need(const std::vector<Array>& arrays, const std::string& name, const char* type,
                  std::size_t axes) {
    const Array* array = find(arrays, name);
    if (array == nullptr || std::strcmp(array->stored->name, type) != 0 ||
        array->shape.size() != axes)
        corrupt("there is no usable '" + name + "'");
    return *array;
}

struct Run {
    std::int32_t start, count, width;
};

std::uint64_t row_values(const Array& base) {
    std::uint64_t values = 1;
    for (std::size_t axis = 1; axis < base.shape.size(); ++axis) values *= base.shape[axis];
    return values;
}

// Bytes of data that a row takes.
std::uint64_t row_data(const Run& run, std::uint64_t values, std::uint64_t width) {
    if (run.width == kRaw) return values * width;
    return (values * static_cast<std::uint64_t>(run.width) + 7) / 8;
}

std::vector<Run> read_runs(const Array& table, const Array& base) {
    if (base.shape.empty() || table.shape[1] != 3 || table.shape[0] == 0)
        corrupt("runs of rows that are none");
    std::vector<Run> runs(static_cast<std::size_t>(table.shape[0]));
    std::memcpy(runs.data(), table.data, runs.size() * sizeof(Run));
    std::vector<bool> used(static_cast<std::size_t>(base.shape[0]));
    for (const Run& run : runs) {
        const bool coarse = run.width >= 1 && run.width <= kMostWidth && base.type == Number::kF32;
        const bool same = run.width == 0 && run.start >= 0;
        if (run.count < 1 || run.start < -1 || !(coarse || same || run.width == kRaw))
            corrupt("an impossible run of rows");
        if (run.start < 0) continue;
        const auto first = static_cast<std::uint64_t>(run.start);
        const std::uint64_t stop = first + static_cast<std::uint64_t>(run.count);
        if (stop > used.size()) corrupt("rows that the base does not have");
        for (std::uint64_t row = first; row < stop; ++row) {
            if (used[static_cast<std::size_t>(row)]) corrupt("a row of the base is used twice");
            used[static_cast<std::size_t>(row)] = true;
        }
    }
    return runs;
}

// One row of packed numbers, `width` bits each, lowest bit first; times a power of two and added.
void add_numbers(const unsigned char* data, std::uint64_t values, std::int32_t width, float step,
                 const unsigned char* base, std::string& to) {
    std::uint64_t held = 0;
    int bits = 0;
    const std::uint64_t sign = std::uint64_t{1} << (width - 1);
    for (std::uint64_t j = 0; j < values; ++j) {
        for (; bits < width; bits += 8) held |= std::uint64_t{*data++} << bits;
        const std::uint64_t own = held & (2 * sign - 1);
        held >>= width;
        bits -= width;
        const auto number = static_cast<std::int32_t>(own ^ sign) - static_cast<std::int32_t>(sign);
        float value = 0;
        if (base != nullptr) std::memcpy(&value, base + 4 * j, sizeof value);
        value += static_cast<float>(number) * step;
        to.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    if (held != 0) corrupt("bits after the end of a row");
}

MadeArray from_runs(const std::string& name, const std::vector<Array>& parts, const Array& base) {
    const std::vector<Run> runs =
        read_runs(need(parts, std::string(kGroup) + name + "/runs", "I32", 2), base);
    const Array& step_array = need(parts, std::string(kGroup) + name + "/step", "I32", 1);
    const Array& data = need(parts, std::string(kGroup) + name + "/data", "U8", 1);
    std::int32_t step = 0;
    if (step_array.count != 1) corrupt("more than one step");
    std::memcpy(&step, step_array.data, sizeof step);
    if (step < kLeastStep || step > kMostStep) corrupt("a step out of range");

    const std::uint64_t values = row_values(base), width = base.stored->width;
    std::uint64_t needed = 0, rows = 0;
    for (const Run& run : runs) {
        rows += static_cast<std::uint64_t>(run.count);
        // Rows of the data are counted before they are multiplied: counts are any numbers.
        if (rows * std::max<std::uint64_t>(values * width, 1) > kMostBytes)
            corrupt("more than 1 GiB comes out");
        needed += static_cast<std::uint64_t>(run.count) * row_data(run, values, width);
    }
    if (needed != data.count)
        corrupt(std::to_string(data.count) + " bytes of data where " + std::to_string(needed) +
                " are needed");
    MadeArray made{name, base.stored, base.shape, {}};
    made.shape[0] = rows;
    made.bytes.reserve(static_cast<std::size_t>(rows * values * width));
    const float scale = std::ldexp(1.0f, step);
    const unsigned char* next = data.data;
    for (const Run& run : runs) {
        const std::uint64_t size = row_data(run, values, width);
        for (std::int32_t i = 0; i < run.count; ++i, next += size) {
            const unsigned char* known = run.start < 0
                                             ? nullptr
                                             : base.data + (static_cast<std::uint64_t>(run.start) +
                                                            static_cast<std::uint64_t>(i)) *
                                                               values * width;
            if (run.width == 0 || run.width == kRaw)
                made.bytes.append(reinterpret_cast<const char*>(run.width == 0 ? known : next),
                                  static_cast<std::size_t>(values * width));
            else
                add_numbers(next, values, run.width, scale, known, made.bytes);
        }
    }
    return made;
}

MadeArray whole(const std::string& name, const Array& array) {
    const std::size_t bytes = array.count * static_cast<std::size_t>(array.stored->width);
    MadeArray made{name, array.stored, array.shape, {}};
    if (bytes > 0) made.bytes.assign(reinterpret_cast<const char*>(array.data), bytes);
    return made;
}

// An array of the new head, from the parts of its name: none, one that says to keep it, or three.
MadeArray make(const std::string& name, const std::vector<std::string>& found,
               const std::vector<Array>& parts, const std::vector<Array>& base) {
    if (found == std::vector<std::string>{""})
        return whole(name, *find(parts, std::string(kGroup) + name));
    const Array* known = find(base, name);
    if (known == nullptr) corrupt("a change of an array that the base does not have");
    if (found == std::vector<std::string>{"/keep"}) {
        if (need(parts, std::string(kGroup) + name + "/keep", "U8", 1).count != 0)
            corrupt("a keep with data");
        return whole(name, *known);
    }
    if (found != std::vector<std::string>{"/data", "/runs", "/step"})
        corrupt("parts of an array that don't belong together");
    return from_runs(name, parts, *known);
}

}  // namespace

std::vector<MadeArray> decode_rows(const std::vector<Array>& parts,
                                   const std::vector<Array>& base) {
    std::vector<std::pair<std::string, std::string>> order;  // of a name and its part
    for (const Array& array : parts) {
        if (array.name.compare(0, kGroup.size(), kGroup) != 0) continue;
        const std::string rest = array.name.substr(kGroup.size());
        const std::size_t slash = std::min(rest.find('/'), rest.size());
        order.emplace_back(rest.substr(0, slash), rest.substr(slash));
    }
    std::sort(order.begin(), order.end());
    std::vector<MadeArray> made;
    for (std::size_t i = 0; i < order.size();) {
        const std::string& name = order[i].first;
        std::vector<std::string> found;
        for (; i < order.size() && order[i].first == name; ++i) found.push_back(order[i].second);
        made.push_back(make(name, found, parts, base));
    }
    return made;
}

std::vector<Array> as_arrays(const std::vector<MadeArray>& made) {
    std::vector<Array> arrays;
    for (const MadeArray& one : made)
        arrays.push_back({one.name, one.stored->number, one.stored, one.shape,
                          reinterpret_cast<const unsigned char*>(one.bytes.data()),
                          one.bytes.size() / static_cast<std::size_t>(one.stored->width)});
    return arrays;
}

std::string digest_of(std::vector<Array> arrays) {
    std::sort(arrays.begin(), arrays.end(),
              [](const Array& a, const Array& b) { return a.name < b.name; });
    Sha256 hash;
    for (const Array& array : arrays) {
        hash.add(array.name.c_str(), array.name.size() + 1);
        hash.add(array.stored->name, std::strlen(array.stored->name) + 1);
        const auto axes = static_cast<std::uint32_t>(array.shape.size());
        hash.add(&axes, sizeof axes);
        hash.add(array.shape.data(), array.shape.size() * sizeof(std::uint64_t));
        hash.add(array.data, array.count * static_cast<std::size_t>(array.stored->width));
    }
    const auto digest = hash.digest();
    return hexadecimal(digest.data(), digest.size());
}

}  // namespace edgetl::capi
