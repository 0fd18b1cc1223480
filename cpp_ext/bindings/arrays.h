// What the binding files check alike: alignment, overlap, the name of an instruction set.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "edgetl/preprocess.h"

namespace arrays {

template <typename T, std::size_t kAxes>
using Array =
    nanobind::ndarray<T, nanobind::ndim<kAxes>, nanobind::c_contig, nanobind::device::cpu>;

inline edgetl::Isa named_isa(std::string_view name) {
    std::string known;
    for (edgetl::Isa isa : edgetl::kIsas) {
        if (name == edgetl::isa_name(isa)) return isa;
        known += std::string(known.empty() ? "" : ", ") + edgetl::isa_name(isa);
    }
    throw std::invalid_argument("instruction set must be one of " + known + ", got '" +
                                std::string(name) + "'");
}

template <typename A>
std::int64_t length(const A& array, std::size_t axis) {
    return static_cast<std::int64_t>(array.shape(axis));
}

inline void require(bool fits, const char* message) {
    if (!fits) throw std::invalid_argument(message);
}

template <typename A>
void check_aligned(const A& array) {
    if (reinterpret_cast<std::uintptr_t>(array.data()) % array.itemsize() != 0)
        throw std::invalid_argument("an array is not aligned");
}

template <typename A, typename B>
bool overlap(const A& a, const B& b) {
    const auto first = reinterpret_cast<std::uintptr_t>(a.data());
    const auto second = reinterpret_cast<std::uintptr_t>(b.data());
    return first < second + b.nbytes() && second < first + a.nbytes() && a.size() && b.size();
}

// Refuses arrays that are not aligned, and an output that shares memory with any other argument.
template <typename Out, typename... Others>
void check_output(const Out& out, const Others&... others) {
    check_aligned(out);
    (check_aligned(others), ...);
    if ((overlap(out, others) || ...))
        throw std::invalid_argument("an output shares memory with another argument");
}

}  // namespace arrays
