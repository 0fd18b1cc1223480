// The arrays of a safetensors file: read from bytes that nobody vouches for, and written. Knows
// nothing about heads.
//
// A file is the header's length (8 bytes, little endian), the header (JSON), and the data, which
// the arrays cover without gaps or overlaps: https://github.com/huggingface/safetensors. Read
// without recursion. Refused although others may take it: a header beyond 64 KiB, more than 64
// arrays, more than 4 axes, types other than numpy's, escapes in names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace edgetl::capi {

enum class Number { kF16, kF32, kF64, kI64, kOther };

// What the file calls a type, and bytes of a value.
struct Type {
    const char* name;
    Number number;
    std::uint64_t width;
};

struct Array {
    std::string name;
    Number type;
    const Type* stored;
    std::vector<std::uint64_t> shape;  // no axis for a single number
    const unsigned char* data;         // in the file; of any alignment
    std::size_t count;                 // of values, which lie in the file altogether
};

// Throws Failure with EDGETL_CORRUPT, or EDGETL_UNSUPPORTED for what is merely not known here. The
// arrays point into `data`.
std::vector<Array> read_arrays(const unsigned char* data, std::size_t bytes);

// A file is made of arrays that the caller holds until it is written.
class ArrayWriter {
  public:
    void add(const std::string& name, const std::vector<std::uint64_t>& shape, const float* values);
    void add(const std::string& name, const std::vector<std::uint64_t>& shape,
             const double* values);
    void add(const std::string& name, const std::vector<std::uint64_t>& shape,
             const std::int64_t* values);
    // Of any type, as it was read; under another name.
    void add(const std::string& name, const Array& array);

    // The file: arrays by falling width and then by name, as safetensors has them, so that numbers
    // are aligned.
    std::string bytes() const;

  private:
    struct Entry {
        std::string name;
        const Type* type;
        std::vector<std::uint64_t> shape;
        const void* data;

        std::uint64_t bytes() const;
    };
    void add(const std::string& name, Number type, const std::vector<std::uint64_t>& shape,
             const void* data);
    std::vector<Entry> entries_;
};

}  // namespace edgetl::capi
