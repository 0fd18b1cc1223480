// The arrays of a safetensors file, from bytes that nobody vouches for. Knows nothing about heads.
//
// A file is the header's length (8 bytes, little endian), the header (JSON), and the data, which
// the arrays cover without gaps or overlaps: https://github.com/huggingface/safetensors. Read
// without recursion. Refused although others may take it: a header beyond 64 KiB, more than 64
// arrays, more than 2 axes, types other than below, escapes in names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace edgetl::capi {

enum class Number { kF32, kF64, kI64 };

struct Array {
    std::string name;
    Number type;
    std::vector<std::uint64_t> shape;  // no axis for a single number
    const unsigned char* data;         // in the file; of any alignment
    std::size_t count;                 // of values, which lie in the file altogether
};

// Throws Failure with EDGETL_CORRUPT, or EDGETL_UNSUPPORTED for what is merely not known here. The
// arrays point into `data`.
std::vector<Array> read_arrays(const unsigned char* data, std::size_t bytes);

}  // namespace edgetl::capi
