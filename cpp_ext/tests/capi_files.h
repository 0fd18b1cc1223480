// Files of heads as edgetl/heads/linear.py stores them, written by hand; for tests and fuzzers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace check {

template <typename Value>
std::string raw(const std::vector<Value>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

inline std::string safetensors(const std::string& header, const std::string& data) {
    return raw(std::vector<std::uint64_t>{header.size()}) + header + data;
}

// Of 3 classes with the labels -5, 0 and 7, and 2 features; `kind` F32 or F64.
inline const std::vector<double> kCoef{0.5, -1, 2, 0.25, -0.125, 3};
inline const std::vector<double> kIntercept{0.5, -0.25, 1};
constexpr double kTemperature = 0.5;

inline std::string head_header(const std::string& kind) {
    const int width = kind == "F32" ? 4 : 8;
    const auto entry = [](const std::string& name, const std::string& type,
                          const std::string& shape, int begin, int end) {
        return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":[" + shape +
               "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
    };
    const int coef = 40 + 6 * width, end = coef + 3 * width;
    return "{" + entry("classes", "I64", "3", 0, 24) + "," + entry("strength", "F64", "", 24, 32) +
           "," + entry("temperature", "F64", "", 32, 40) + "," +
           entry("coef", kind, "3,2", 40, coef) + "," + entry("intercept", kind, "3", coef, end) +
           "}";
}

inline std::string head_data(const std::string& kind) {
    const std::string first = raw(std::vector<std::int64_t>{-5, 0, 7}) +
                              raw(std::vector<double>{1.0}) +
                              raw(std::vector<double>{kTemperature});
    if (kind == "F64") return first + raw(kCoef) + raw(kIntercept);
    return first + raw(std::vector<float>(kCoef.begin(), kCoef.end())) +
           raw(std::vector<float>(kIntercept.begin(), kIntercept.end()));
}

inline std::string head_file(const std::string& kind) {
    return safetensors(head_header(kind), head_data(kind));
}

}  // namespace check
