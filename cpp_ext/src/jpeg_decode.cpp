// Drives libjpeg over one file.
//
// libjpeg leaves by longjmp when it complains. So whatever calls it is a step of its own, with
// setjmp at the start and nothing inside that has a destructor; memory is taken between the steps.
#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "edgetl/jpeg.h"
#include "jpeg_abi.h"

// Where setjmp saves the mask of signals too, that takes two calls of the system.
#ifdef __APPLE__
#define EDGETL_SETJMP _setjmp
#define EDGETL_LONGJMP _longjmp
#else
#define EDGETL_SETJMP setjmp
#define EDGETL_LONGJMP std::longjmp
#endif

namespace edgetl {
namespace {

// Pixels at a cut side that may differ from the whole image's: colours are interpolated from the
// next sample, which is up to two pixels away. Twice that.
constexpr std::int64_t kMargin = 4;
// Rows begin 8 bytes behind the start of a cache line. Where they begin at one, libjpeg-turbo
// writes past the cache on x86, and the resampling that follows has to wait for memory: a seventh
// more time for photos of 500 x 375.
constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t kBehind = 8;

// One file being decoded.
class Run {
  public:
    explicit Run(const jpeg::Functions& functions) : functions_(functions) {
        functions_.std_error(&errors_);
        errors_.error_exit = [](Decoder* decoder) { complain(decoder); };
        // Warnings too: what they are about may not be decoded the same elsewhere.
        errors_.emit_message = [](Decoder* decoder, int level) {
            if (level < 0) complain(decoder);
        };
        errors_.output_message = [](Decoder*) {};
        decoder_.errors = &errors_;
    }
    ~Run() {
        if (created_) functions_.destroy(&decoder_);
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    // Reads the header and says what is wanted. False if libjpeg complains.
    bool begin(const std::uint8_t* data, std::size_t size, int divisor);
    // Decodes the rows of `part` to `out`, wider than asked for where libjpeg wants it so.
    bool decode(bool cropped, std::uint8_t* out, std::int64_t stride, Box* part);
    // Where decode() will begin and end at most, given what is wanted; nothing is decoded yet.
    const jpeg::Decoder& state() const { return decoder_; }
    void describe(std::string* message);

  private:
    using Decoder = jpeg::Decoder;

    static void complain(Decoder* decoder) {
        EDGETL_LONGJMP(reinterpret_cast<Run*>(decoder->client)->back_, 1);
    }
    bool read(std::uint8_t* out, std::int64_t stride, std::int64_t rows);

    const jpeg::Functions& functions_;
    Decoder decoder_{};
    jpeg::ErrorManager errors_{};
    std::jmp_buf back_;
    bool created_ = false;
};

bool Run::begin(const std::uint8_t* data, std::size_t size, int divisor) {
    decoder_.client = this;
    if (EDGETL_SETJMP(back_) != 0) return false;
    functions_.create(&decoder_, jpeg::kAbiVersion, sizeof(Decoder));  // clears all but two fields
    created_ = true;
    functions_.memory_source(&decoder_, data, static_cast<unsigned long>(size));
    if (functions_.read_header(&decoder_, 1) != 1) return false;
    decoder_.output_colour_space = jpeg::kRgb;
    decoder_.scale_numerator = 1;
    decoder_.scale_denominator = static_cast<unsigned int>(divisor);
    functions_.output_dimensions(&decoder_);
    return true;
}

// Reads `rows` rows one below the other, or all over the same memory where the stride is zero.
bool Run::read(std::uint8_t* out, std::int64_t stride, std::int64_t rows) {
    constexpr std::int64_t kMost = 16;
    unsigned char* targets[kMost];
    while (rows > 0) {
        const std::int64_t count = rows < kMost ? rows : kMost;
        for (std::int64_t i = 0; i < count; ++i) targets[i] = out + i * stride;
        const std::int64_t done =
            functions_.read_rows(&decoder_, targets, static_cast<unsigned int>(count));
        if (done < 1 || done > count) return false;
        out += done * stride;
        rows -= done;
    }
    return true;
}

bool Run::decode(bool cropped, std::uint8_t* out, std::int64_t stride, Box* part) {
    if (EDGETL_SETJMP(back_) != 0) return false;
    if (functions_.start(&decoder_) != 1) return false;
    const std::int64_t height = decoder_.output_height;
    if (cropped) {
        auto left = static_cast<unsigned int>(part->left);
        auto width = static_cast<unsigned int>(part->width);
        functions_.crop(&decoder_, &left, &width);
        if (left > part->left || left + width < part->left + part->width ||
            decoder_.output_width != width || 3 * std::int64_t{width} > stride)
            return false;
        part->left = left;
        part->width = width;
    }
    if (part->top > 0) {
        const auto rows = static_cast<unsigned int>(part->top);
        if (functions_.skip_rows(&decoder_, rows) != rows) return false;
    }
    if (!read(out, stride, part->height)) return false;
    // The rest is skipped but for the last row: skipping to the end would not look at the data.
    const std::int64_t rest = height - part->top - part->height;
    if (rest > 1) {
        const auto rows = static_cast<unsigned int>(rest - 1);
        if (functions_.skip_rows(&decoder_, rows) != rows) return false;
    }
    if (rest > 0 && !read(out + part->height * stride, 0, 1)) return false;
    return functions_.finish(&decoder_) == 1;
}

void Run::describe(std::string* message) {
    char text[jpeg::kMessageBytes + 1] = {};
    if (EDGETL_SETJMP(back_) == 0) errors_.format_message(&decoder_, text);
    message->assign(text, strnlen(text, jpeg::kMessageBytes));
    if (message->empty()) *message = "libjpeg decodes it not in full";
}

std::int64_t round_up(std::int64_t value, std::int64_t step) {
    return (value + step - 1) / step * step;
}

// The pixels that have to be decoded for `wanted` to be exact.
Box with_margins(const Box& wanted, std::int64_t height, std::int64_t width, bool progressive) {
    // Whoever decodes a progressive file in parts gets other pixels where scans are missing and
    // libjpeg smooths over blocks; what there is to save is little, most work being before.
    if (progressive) return {0, 0, height, width};
    const std::int64_t left = std::max<std::int64_t>(0, wanted.left - kMargin);
    const std::int64_t right = std::min(width, wanted.left + wanted.width + kMargin);
    return {wanted.top, left, wanted.height, right - left};
}

}  // namespace

std::uint8_t* Scratch::reserve(std::size_t bytes) {
    if (bytes > size_) {
        data_.reset();
        size_ = 0;
        data_.reset(new std::uint8_t[bytes]);
        size_ = bytes;
    }
    return data_.get();
}

void Scratch::shrink(std::size_t bytes) {
    if (size_ <= bytes) return;
    data_.reset();
    size_ = 0;
}

const char* decode_jpeg(const JpegLibrary& library, const std::uint8_t* data, std::size_t size,
                        const JpegHeader& header, int divisor, const Box& wanted, Scratch* scratch,
                        Pixels* pixels, std::string* message) {
    Run run(library.functions());
    if (!run.begin(data, size, divisor)) {
        run.describe(message);
        return message->c_str();
    }
    const jpeg::Decoder& state = run.state();
    // The size was checked, and the part chosen, by what scan_jpeg read: it has to be true.
    if (state.image_height != header.height || state.image_width != header.width)
        return "libjpeg reads another size";
    const bool known = state.components == 1
                           ? state.colour_space == jpeg::kGrey
                           : state.components == 3 && (state.colour_space == jpeg::kYcc ||
                                                       state.colour_space == jpeg::kRgb);
    if (!known || state.precision != 8) return "colours that are neither grey, YCbCr nor RGB";
    const std::int64_t height = (header.height + divisor - 1) / divisor;
    const std::int64_t width = (header.width + divisor - 1) / divisor;
    if (state.output_height != height || state.output_width != width ||
        state.output_components != 3)
        return "libjpeg scales to another size";
    if (wanted.top < 0 || wanted.left < 0 || wanted.height < 1 || wanted.width < 1 ||
        wanted.top + wanted.height > height || wanted.left + wanted.width > width)
        return "the wanted part does not lie inside the image";

    pixels->part = with_margins(wanted, height, width, header.progressive);
    const bool cropped = pixels->part.width < width;
    // libjpeg moves the left side to a boundary of blocks: at most the whole row is decoded. One
    // more row takes the last of the image.
    const std::int64_t columns = pixels->part.left + pixels->part.width;
    pixels->stride = round_up(3 * columns, kCacheLine);
    std::uint8_t* out =
        scratch->reserve((pixels->part.height + 1) * pixels->stride + kCacheLine + kBehind);
    const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) % kCacheLine);
    out += kCacheLine - past + kBehind;
    pixels->data = out;
    if (!run.decode(cropped, out, pixels->stride, &pixels->part)) {
        run.describe(message);
        return message->c_str();
    }
    return nullptr;
}

}  // namespace edgetl
