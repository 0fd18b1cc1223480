// One photo on its way to a network input: from the bytes of a file to upright pixels.
//
// Only what the output depends on is decoded, so what comes out is the part of a photo. Files that
// are not JPEG, or out of the ordinary, are declined (see edgetl/jpeg.h). Knows no Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "edgetl/jpeg.h"
#include "edgetl/preprocess.h"

namespace edgetl {

// decode="scaled" keeps the shorter side at no less than this multiple of `resize`.
constexpr std::int64_t kScaledMargin = 2;

// What is made of photos.
struct Recipe {
    Definition definition;
    bool scaled;  // whether a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size
    Isa isa;
    std::shared_ptr<const JpegLibrary> jpeg;  // without one, every file is declined
};

// What a thread keeps from one photo to the next.
struct Workspace {
    Scratch decoded;
    Scratch upright;
    std::string message;

    // Lets go of memory that has grown beyond `bytes`.
    void trim(std::size_t bytes) {
        decoded.shrink(bytes);
        upright.shrink(bytes);
    }
};

// Decodes what the recipe needs of a photo, upright, into the workspace. Returns nullptr, or why
// the file was declined; the text lives as long as the workspace is not used again. Throws
// std::bad_alloc.
const char* decode_photo(const Recipe& recipe, const std::uint8_t* data, std::size_t size,
                         Workspace* workspace, Image* image);

struct Bytes {
    const std::uint8_t* data;
    std::size_t size;
};

// Decodes and preprocesses photos, one after the other in each of `threads` threads, into outputs
// that lie one behind the other. Returns why each was declined; empty where it was not. Throws
// std::bad_alloc, and std::invalid_argument for a definition out of range.
std::vector<std::string> prepare_photos(const Recipe& recipe, const std::vector<Bytes>& photos,
                                        void* out, int threads);

}  // namespace edgetl
