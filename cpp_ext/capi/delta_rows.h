// The arrays of a head update: rows of the base's arrays, changed, left out and added, as the
// text of edgetl/bundle/delta.py says.
#pragma once

#include <string>
#include <vector>

#include "arrays.h"

namespace edgetl::capi {

// An array with its own memory.
struct MadeArray {
    std::string name;
    const Type* stored;
    std::vector<std::uint64_t> shape;
    std::string bytes;
};

// What the parts make of the base's arrays; throws Failure with EDGETL_CORRUPT.
std::vector<MadeArray> decode_rows(const std::vector<Array>& parts, const std::vector<Array>& base);

std::vector<Array> as_arrays(const std::vector<MadeArray>& made);

// The digest of a head's arrays, in hexadecimal.
std::string digest_of(std::vector<Array> arrays);

}  // namespace edgetl::capi
