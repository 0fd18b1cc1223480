// Decodes JPEG files, or the part of one that is needed, with a libjpeg-turbo opened at run time.
//
// It is careful rather than complete: only what every libjpeg-turbo decodes without a complaint,
// and therefore to the same pixels, is decoded. Everything else is declined with a reason and left
// to a decoder that knows more formats and how to word what is wrong. Knows no Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "edgetl/preprocess.h"

namespace edgetl {

// Larger images are declined before any memory is taken.
constexpr std::int64_t kMaxPixels = std::int64_t{2} * 89'478'485;

namespace jpeg {
struct Functions;
}

// A libjpeg-turbo of version 3 or later with libjpeg's interface 6.2. It stays open until the
// process ends. Safe to share between threads.
class JpegLibrary {
  public:
    // Throws std::runtime_error with the reason where `path` is no such library.
    explicit JpegLibrary(const std::string& path);
    ~JpegLibrary();
    JpegLibrary(const JpegLibrary&) = delete;
    JpegLibrary& operator=(const JpegLibrary&) = delete;

    const jpeg::Functions& functions() const { return *functions_; }

  private:
    std::unique_ptr<jpeg::Functions> functions_;
};

struct JpegHeader {
    std::int64_t height;  // as stored, before it is turned upright
    std::int64_t width;
    int orientation;  // 1 to 8, as in TIFF 6.0, tag 274
    bool progressive;
    bool usual_sampling;  // of colours, so that all decoders agree on what scaling it means
};

// Size and orientation from the segments before the first scan (ITU-T T.81, annex B; the
// orientation from EXIF or else XMP). False where this is no plain JPEG of 8 bits with one or three
// components, or is damaged.
bool scan_jpeg(const std::uint8_t* data, std::size_t size, JpegHeader* header);

// Memory that is used again for one image after the other; grows as needed.
class Scratch {
  public:
    // At least `bytes`, with what was in it before or not.
    std::uint8_t* reserve(std::size_t bytes);
    // Lets go of it where it has grown beyond `bytes`.
    void shrink(std::size_t bytes);

  private:
    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_ = 0;
};

// Decoded pixels: rows of packed RGB inside a Scratch.
struct Pixels {
    const std::uint8_t* data;
    std::int64_t stride;
    Box part;  // of the scaled image as stored; covers what was asked for
};

// Decodes what `wanted` covers of a JPEG file at 1 / `divisor` of its size, 1, 2, 4 or 8; rounded
// up, as libjpeg does. The pixels equal those of the whole image decoded, to the bit. The file is
// read to its end whatever is wanted, so damage is noticed wherever it is. Returns nullptr, or why
// the file was declined: a text that lives for ever, or in `message`.
const char* decode_jpeg(const JpegLibrary& library, const std::uint8_t* data, std::size_t size,
                        const JpegHeader& header, int divisor, const Box& wanted, Scratch* scratch,
                        Pixels* pixels, std::string* message);

}  // namespace edgetl
