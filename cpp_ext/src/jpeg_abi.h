// The part of libjpeg's binary interface that the core uses, so that it builds without libjpeg.
//
// Structures and functions as version 6.2 of that interface lays them out where a pointer and a
// long have 64 bits; libjpeg-turbo keeps to it, and is opened at run time (src/jpeg_library.cpp).
// Fields that the core has no use for stand together as padding. tests/jpeg_abi.cpp compares the
// offsets with <jpeglib.h>, jpeg_CreateDecompress compares version and size with its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgetl::jpeg {

constexpr int kAbiVersion = 62;

enum ColourSpace : int { kUnknown = 0, kGrey = 1, kRgb = 2, kYcc = 3 };

struct Decoder;

struct ErrorManager {
    void (*error_exit)(Decoder*);               // must not return
    void (*emit_message)(Decoder*, int level);  // a negative level is a warning
    void (*output_message)(Decoder*);
    void (*format_message)(Decoder*, char* text);
    void (*reset)(Decoder*);
    int code;
    char parameters[80];
    int trace_level;
    long warnings;
    const char* const* messages;
    int last_message;
    const char* const* more_messages;
    int first_of_more;
    int last_of_more;
};

struct Decoder {
    ErrorManager* errors;
    void* memory;
    void* progress;
    void* client;
    int is_decompressor;
    int state;
    void* source;
    unsigned int image_width;
    unsigned int image_height;
    int components;
    int colour_space;
    int output_colour_space;
    unsigned int scale_numerator;
    unsigned int scale_denominator;
    double gamma;
    int buffered_image;
    int raw_data;
    int dct_method;
    int fancy_upsampling;
    int block_smoothing;
    int quantisation[7];  // of colours, which the core never asks for
    unsigned int output_width;
    unsigned int output_height;
    int colour_components;
    int output_components;
    int advised_rows;
    int colours;
    void* colour_map;
    unsigned int output_row;
    unsigned char between[124];
    int precision;
    unsigned char rest[332];
};

static_assert(sizeof(void*) != 8 || sizeof(long) != 8 || sizeof(Decoder) == 632,
              "the decoder's state has another size than in libjpeg 6.2");

// Longest text that format_message writes, with its zero.
constexpr std::size_t kMessageBytes = 200;

struct Functions {
    ErrorManager* (*std_error)(ErrorManager*);
    void (*create)(Decoder*, int version, std::size_t size);
    void (*memory_source)(Decoder*, const unsigned char* data, unsigned long size);
    int (*read_header)(Decoder*, int require_image);
    void (*output_dimensions)(Decoder*);
    int (*start)(Decoder*);
    void (*crop)(Decoder*, unsigned int* left, unsigned int* width);
    unsigned int (*skip_rows)(Decoder*, unsigned int rows);
    unsigned int (*read_rows)(Decoder*, unsigned char** rows, unsigned int most);
    int (*finish)(Decoder*);
    void (*destroy)(Decoder*);
};

}  // namespace edgetl::jpeg
