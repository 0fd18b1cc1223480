// Compares src/jpeg_abi.h with libjpeg's own header, where there is one of version 6.2. It has only
// to compile; tests/native/test_jpeg.py sees to that.
#include "jpeg_abi.h"

#include <cstddef>
#include <cstdio>

#if __has_include(<jpeglib.h>)
#include <jpeglib.h>
#endif

#if defined(JPEG_LIB_VERSION) && JPEG_LIB_VERSION == 62 && defined(__LP64__)

using edgetl::jpeg::Decoder;
using edgetl::jpeg::ErrorManager;

#define SAME(ours, theirs, field, original)                              \
    static_assert(offsetof(ours, field) == offsetof(theirs, original) && \
                      sizeof(ours::field) == sizeof(theirs::original),   \
                  #field " is not where, or not as large as, " #original)
#define DECODER(field, original) SAME(Decoder, jpeg_decompress_struct, field, original)
#define ERRORS(field, original) SAME(ErrorManager, jpeg_error_mgr, field, original)

static_assert(sizeof(Decoder) == sizeof(jpeg_decompress_struct), "another size");
static_assert(alignof(Decoder) == alignof(jpeg_decompress_struct), "another alignment");
static_assert(sizeof(ErrorManager) == sizeof(jpeg_error_mgr), "another size");

DECODER(errors, err);
DECODER(memory, mem);
DECODER(progress, progress);
DECODER(client, client_data);
DECODER(is_decompressor, is_decompressor);
DECODER(state, global_state);
DECODER(source, src);
DECODER(image_width, image_width);
DECODER(image_height, image_height);
DECODER(components, num_components);
DECODER(colour_space, jpeg_color_space);
DECODER(output_colour_space, out_color_space);
DECODER(scale_numerator, scale_num);
DECODER(scale_denominator, scale_denom);
DECODER(gamma, output_gamma);
DECODER(buffered_image, buffered_image);
DECODER(raw_data, raw_data_out);
DECODER(dct_method, dct_method);
DECODER(fancy_upsampling, do_fancy_upsampling);
DECODER(block_smoothing, do_block_smoothing);
DECODER(output_width, output_width);
DECODER(output_height, output_height);
DECODER(colour_components, out_color_components);
DECODER(output_components, output_components);
DECODER(advised_rows, rec_outbuf_height);
DECODER(colours, actual_number_of_colors);
DECODER(colour_map, colormap);
DECODER(output_row, output_scanline);
DECODER(precision, data_precision);
static_assert(offsetof(Decoder, quantisation) ==
                      offsetof(jpeg_decompress_struct, quantize_colors) &&
                  offsetof(Decoder, output_width) - offsetof(Decoder, quantisation) ==
                      sizeof(Decoder::quantisation),
              "the options of colour maps lie elsewhere");

ERRORS(error_exit, error_exit);
ERRORS(emit_message, emit_message);
ERRORS(output_message, output_message);
ERRORS(format_message, format_message);
ERRORS(reset, reset_error_mgr);
ERRORS(code, msg_code);
ERRORS(parameters, msg_parm);
ERRORS(trace_level, trace_level);
ERRORS(warnings, num_warnings);
ERRORS(messages, jpeg_message_table);
ERRORS(last_message, last_jpeg_message);
ERRORS(more_messages, addon_message_table);
ERRORS(first_of_more, first_addon_message);
ERRORS(last_of_more, last_addon_message);

static_assert(edgetl::jpeg::kAbiVersion == JPEG_LIB_VERSION, "another version");
static_assert(edgetl::jpeg::kMessageBytes == JMSG_LENGTH_MAX, "another length of messages");
static_assert(int{edgetl::jpeg::kGrey} == int{JCS_GRAYSCALE} &&
                  int{edgetl::jpeg::kRgb} == int{JCS_RGB} &&
                  int{edgetl::jpeg::kYcc} == int{JCS_YCbCr},
              "other numbers of colour spaces");

#elif defined(EDGETL_WITHOUT_JPEGLIB_IS_AN_ERROR)
#error "no <jpeglib.h> of version 6.2"
#endif
