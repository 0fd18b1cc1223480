// Reads what a JPEG file says of itself before its first scan: size, orientation, kind.
//
// Every length in here comes from the file and is believed only as far as the file reaches.
#include <algorithm>
#include <cstring>
#include <string_view>

#include "edgetl/jpeg.h"

namespace edgetl {
namespace {

// Bytes of a file, or of a segment in it.
struct Span {
    const std::uint8_t* data;
    std::size_t size;

    bool holds(std::size_t at, std::size_t count) const { return at <= size && count <= size - at; }
    bool starts_with(std::string_view text) const {
        return holds(0, text.size()) && std::memcmp(data, text.data(), text.size()) == 0;
    }
    // The part from `at` to `end`, as far as there is one.
    Span slice(std::size_t at, std::size_t end) const {
        const std::size_t last = std::min(end, size), first = std::min(at, last);
        return {data + first, last - first};
    }
    std::uint32_t number(std::size_t at, int bytes, bool big_endian = true) const {
        std::uint32_t value = 0;
        for (int i = 0; i < bytes; ++i)
            value = value << 8 | data[at + (big_endian ? i : bytes - 1 - i)];
        return value;
    }
};

constexpr int kOrientationTag = 0x0112;
constexpr int kNone = -1;

// Tag 0x0112 of the first directory of a TIFF structure (TIFF 6.0, section 2); kNone without one.
std::int64_t exif_orientation(const Span& tiff) {
    const bool big = tiff.starts_with("MM");
    if ((!big && !tiff.starts_with("II")) || !tiff.holds(4, 4)) return kNone;
    const std::size_t start = tiff.number(4, 4, big);
    if (!tiff.holds(start, 2)) return kNone;
    const std::size_t count = tiff.number(start, 2, big);
    for (std::size_t entry = start + 2; entry < start + 2 + 12 * count; entry += 12) {
        if (!tiff.holds(entry, 4)) return kNone;
        if (tiff.number(entry, 2, big) != kOrientationTag) continue;
        const std::uint32_t kind = tiff.number(entry + 2, 2, big);
        const int bytes = kind == 3 ? 2 : 4;
        if ((kind != 3 && kind != 4) || !tiff.holds(entry + 8, bytes)) return kNone;
        return tiff.number(entry + 8, bytes, big);
    }
    return kNone;
}

// The digit after the first tiff:Orientation=" or tiff:Orientation> of an XMP packet.
std::int64_t xmp_orientation(const Span& packet) {
    const std::string_view text(reinterpret_cast<const char*>(packet.data), packet.size);
    constexpr std::string_view kName = "tiff:Orientation";
    for (std::size_t at = text.find(kName); at != text.npos; at = text.find(kName, at + 1)) {
        std::string_view rest = text.substr(at + kName.size());
        if (rest.substr(0, 2) == "=\"")
            rest.remove_prefix(2);
        else if (rest.substr(0, 1) == ">")
            rest.remove_prefix(1);
        else
            continue;
        if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
    }
    return kNone;
}

bool is_frame(int marker) {
    return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

// Stuffing, TEM, RST0 to RST7, SOI and EOI: nothing tells their length, for they have none.
bool is_bare(int marker) {
    return marker <= 0x01 || (marker >= 0xD0 && marker <= 0xD9);
}

// Grey, or colours sampled once for every 1 x 1, 2 x 1, 2 x 2, 1 x 2 or 4 x 1 pixels.
bool sampled_as_usual(const Span& frame, int components) {
    if (components == 1) return frame.holds(6, 3);
    if (!frame.holds(6, 9)) return false;
    const int luma = frame.data[7];  // horizontally and vertically, four bits each
    if (frame.data[10] != 0x11 || frame.data[13] != 0x11) return false;
    return luma == 0x11 || luma == 0x21 || luma == 0x22 || luma == 0x12 || luma == 0x41;
}

}  // namespace

bool scan_jpeg(const std::uint8_t* data, std::size_t size, JpegHeader* header) {
    const Span file{data, size};
    if (!file.starts_with("\xff\xd8\xff")) return false;
    Span frame{}, exif{}, xmp{};
    bool progressive = false;
    for (std::size_t at = 2; file.holds(at, 4) && data[at] == 0xFF;) {
        const int marker = data[at + 1];
        if (marker == 0xFF) {  // a fill byte
            ++at;
            continue;
        }
        if (marker == 0xDA) break;          // start of scan
        if (is_bare(marker)) return false;  // what follows is no length, whatever it looks like
        const std::size_t end = at + 2 + file.number(at + 2, 2);
        const Span body = file.slice(at + 4, end);
        at = end;
        if (is_frame(marker)) {
            if (marker > 0xC2) return false;  // neither baseline, extended nor progressive
            frame = body;
            progressive = marker == 0xC2;
        } else if (marker == 0xE1 && body.starts_with({"Exif\0\0", 6})) {
            if (exif.size == 0) exif = body.slice(6, body.size);
        } else if (marker == 0xE1 && body.starts_with({"http://ns.adobe.com/xap/1.0/\0", 29})) {
            xmp = body;
        }
    }
    if (!frame.holds(0, 6)) return false;
    const int components = frame.data[5];
    header->height = frame.number(1, 2);
    header->width = frame.number(3, 2);
    header->progressive = progressive;
    header->usual_sampling = sampled_as_usual(frame, components);
    if (frame.data[0] != 8 || (components != 1 && components != 3) || header->height < 1 ||
        header->width < 1)
        return false;
    std::int64_t found = exif_orientation(exif);
    if (found == kNone) found = xmp_orientation(xmp);
    header->orientation = found >= 1 && found <= 8 ? static_cast<int>(found) : 1;
    return true;
}

}  // namespace edgetl
