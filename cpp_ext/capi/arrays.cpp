// Parses the header of a safetensors file, whose JSON is three objects deep and no deeper.
#include "arrays.h"

#include <algorithm>
#include <cstring>

#include "boundary.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the numbers of the file are taken as they are: little endian"
#endif

namespace edgetl::capi {
namespace {

constexpr std::uint64_t kMostHeader = std::uint64_t{1} << 16;
constexpr std::size_t kMostArrays = 64;
constexpr std::size_t kMostAxes = 4;
constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 53;

[[noreturn]] void corrupt(const std::string& text) {
    throw Failure(EDGETL_CORRUPT, "not a whole safetensors file: " + text);
}

[[noreturn]] void unknown(const std::string& text) {
    throw Failure(EDGETL_UNSUPPORTED, text);
}

// A name of the file, fit to be shown.
std::string shown(const std::string& name) {
    std::string result = "'";
    for (const char c : name.substr(0, 40)) result += c >= 32 && c < 127 ? c : '?';
    return result + (name.size() > 40 ? "...'" : "'");
}

class Header {
  public:
    Header(const char* text, std::size_t length) : begin_(text), at_(text), end_(text + length) {}

    // Whether the next token is this one, which then is behind us.
    bool take(char token) {
        skip_space();
        if (at_ == end_ || *at_ != token) return false;
        ++at_;
        return true;
    }

    void need(char token) {
        if (!take(token)) wrong(std::string("a '") + token + "'");
    }

    // The text between quotes, escapes as they are written.
    std::string text() {
        need('"');
        const char* first = at_;
        for (; at_ != end_ && *at_ != '"'; ++at_) {
            if (static_cast<unsigned char>(*at_) < 32) wrong("text");
            if (*at_ == '\\' && ++at_ == end_) break;
        }
        if (at_ == end_) wrong("the end of a text");
        return {first, at_++};
    }

    std::uint64_t number() {
        skip_space();
        const char* first = at_;
        std::uint64_t value = 0;
        for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
            value = 10 * value + static_cast<std::uint64_t>(*at_ - '0');
            if (value > kMostNumber) wrong("a number below 2^53");
        }
        if (at_ == first || (*first == '0' && at_ - first > 1)) wrong("a whole number");
        return value;
    }

    std::vector<std::uint64_t> numbers(std::size_t most) {
        std::vector<std::uint64_t> result;
        need('[');
        if (take(']')) return result;
        do {
            if (result.size() == most) unknown("an array has more than 4 axes");
            result.push_back(number());
        } while (take(','));
        need(']');
        return result;
    }

    void end() {
        skip_space();
        if (at_ != end_) wrong("its end");
    }

    [[noreturn]] void wrong(const std::string& expected) const {
        corrupt("expected " + expected + " at byte " + std::to_string(at_ - begin_) +
                " of the header");
    }

  private:
    void skip_space() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
    }

    const char* begin_;
    const char* at_;
    const char* end_;
};

void skip_metadata(Header& header) {
    header.need('{');
    if (header.take('}')) return;
    do {
        header.text();
        header.need(':');
        header.text();
    } while (header.take(','));
    header.need('}');
}

constexpr Type kTypes[] = {
    {"F16", Number::kF16, 2},   {"F32", Number::kF32, 4},    {"F64", Number::kF64, 8},
    {"I64", Number::kI64, 8},   {"BF16", Number::kOther, 2}, {"BOOL", Number::kOther, 1},
    {"U8", Number::kOther, 1},  {"I8", Number::kOther, 1},   {"U16", Number::kOther, 2},
    {"I16", Number::kOther, 2}, {"U32", Number::kOther, 4},  {"I32", Number::kOther, 4},
    {"U64", Number::kOther, 8}};

const Type& type_of(const std::string& name, const std::string& type) {
    for (const Type& known : kTypes)
        if (type == known.name) return known;
    unknown("array " + shown(name) + " has the type " + shown(type) + ", which is not known here");
}

struct Entry {
    Array array;
    std::uint64_t begin;
    std::uint64_t end;
};

Entry read_entry(Header& header, const std::string& name) {
    Entry entry{{name, Number::kOther, nullptr, {}, nullptr, 0}, 0, 0};
    bool typed = false, shaped = false, placed = false;
    header.need('{');
    do {
        const std::string key = header.text();
        header.need(':');
        if (key == "dtype" && !typed) {
            entry.array.stored = &type_of(name, header.text());
            entry.array.type = entry.array.stored->number;
            typed = true;
        } else if (key == "shape" && !shaped) {
            entry.array.shape = header.numbers(kMostAxes);
            shaped = true;
        } else if (key == "data_offsets" && !placed) {
            const auto offsets = header.numbers(2);
            if (offsets.size() != 2) header.wrong("two offsets");
            entry.begin = offsets[0];
            entry.end = offsets[1];
            placed = true;
        } else {
            header.wrong("dtype, shape and data_offsets, once each");
        }
    } while (header.take(','));
    header.need('}');
    if (!typed || !shaped || !placed) header.wrong("dtype, shape and data_offsets, once each");
    return entry;
}

std::vector<Entry> read_entries(Header& header) {
    std::vector<Entry> entries;
    bool metadata = false;
    header.need('{');
    if (!header.take('}')) {
        do {
            const std::string name = header.text();
            header.need(':');
            if (name == "__metadata__" && !metadata) {
                skip_metadata(header);
                metadata = true;
                continue;
            }
            if (name == "__metadata__") corrupt("it has __metadata__ twice");
            if (name.find('\\') != std::string::npos)
                unknown("the name of array " + shown(name) + " has escapes");
            for (const Entry& other : entries)
                if (other.array.name == name) corrupt("it has array " + shown(name) + " twice");
            if (entries.size() == kMostArrays) unknown("the file has more than 64 arrays");
            entries.push_back(read_entry(header, name));
        } while (header.take(','));
        header.need('}');
    }
    header.end();
    return entries;
}

// Places the arrays in the data, which they cover one after the other.
void place(std::vector<Entry>& entries, const unsigned char* data, std::uint64_t bytes) {
    std::vector<Entry*> order;
    for (Entry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
        return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
    });
    std::uint64_t covered = 0;
    for (Entry* entry : order) {
        Array& array = entry->array;
        if (entry->begin != covered || entry->end < entry->begin || entry->end > bytes)
            corrupt("array " + shown(array.name) + " lies at bytes " +
                    std::to_string(entry->begin) + " to " + std::to_string(entry->end) + " of " +
                    std::to_string(bytes) + ", expected to begin at " + std::to_string(covered));
        covered = entry->end;
        const std::uint64_t width = array.stored->width;
        const std::uint64_t room = (entry->end - entry->begin) / width;
        std::uint64_t count = 1;
        for (const std::uint64_t length : array.shape) {
            if (length != 0 && count > room / length)
                corrupt("the shape of array " + shown(array.name) + " is beyond its bytes");
            count *= length;
        }
        if (count * width != entry->end - entry->begin)
            corrupt("array " + shown(array.name) + " has " +
                    std::to_string(entry->end - entry->begin) + " bytes for " +
                    std::to_string(count) + " values");
        array.data = data + entry->begin;
        array.count = static_cast<std::size_t>(count);
    }
    if (covered != bytes)
        corrupt("its arrays have " + std::to_string(covered) + " bytes, its data " +
                std::to_string(bytes));
}

const Type& type_of(Number number) {
    for (const Type& known : kTypes)
        if (known.number == number) return known;
    return kTypes[0];
}

}  // namespace

std::vector<Array> read_arrays(const unsigned char* data, std::size_t bytes) {
    if (bytes < 8) corrupt("it has " + std::to_string(bytes) + " bytes");
    std::uint64_t length = 0;
    std::memcpy(&length, data, 8);
    if (length > bytes - 8)
        corrupt("its header has " + std::to_string(length) + " bytes, the file " +
                std::to_string(bytes));
    if (length > kMostHeader)
        unknown("the header has " + std::to_string(length) + " bytes; at most " +
                std::to_string(kMostHeader) + " are read");
    const auto after = static_cast<std::size_t>(length);
    Header header(reinterpret_cast<const char*>(data) + 8, after);
    std::vector<Entry> entries = read_entries(header);
    place(entries, data + 8 + after, bytes - 8 - after);
    std::vector<Array> arrays;
    for (Entry& entry : entries) arrays.push_back(std::move(entry.array));
    return arrays;
}

std::uint64_t ArrayWriter::Entry::bytes() const {
    std::uint64_t count = type->width;
    for (const std::uint64_t length : shape) count *= length;
    return count;
}

void ArrayWriter::add(const std::string& name, Number type, const std::vector<std::uint64_t>& shape,
                      const void* data) {
    entries_.push_back({name, &type_of(type), shape, data});
}

void ArrayWriter::add(const std::string& name, const std::vector<std::uint64_t>& shape,
                      const float* values) {
    add(name, Number::kF32, shape, values);
}

void ArrayWriter::add(const std::string& name, const std::vector<std::uint64_t>& shape,
                      const double* values) {
    add(name, Number::kF64, shape, values);
}

void ArrayWriter::add(const std::string& name, const std::vector<std::uint64_t>& shape,
                      const std::int64_t* values) {
    add(name, Number::kI64, shape, values);
}

void ArrayWriter::add(const std::string& name, const Array& array) {
    entries_.push_back({name, array.stored, array.shape, array.data});
}

std::string ArrayWriter::bytes() const {
    std::vector<const Entry*> order;
    for (const Entry& entry : entries_) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
        return a->type->width != b->type->width ? a->type->width > b->type->width
                                                : a->name < b->name;
    });
    std::string header = "{";
    std::uint64_t at = 0;
    for (const Entry* entry : order) {
        std::string shape;
        for (const std::uint64_t length : entry->shape)
            shape += (shape.empty() ? "" : ",") + std::to_string(length);
        header += (header.size() > 1 ? ",\"" : "\"") + entry->name + "\":{\"dtype\":\"" +
                  entry->type->name + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
                  std::to_string(at) + "," + std::to_string(at + entry->bytes()) + "]}";
        at += entry->bytes();
    }
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    const std::uint64_t length = header.size();
    std::string file(reinterpret_cast<const char*>(&length), 8);
    file.reserve(8 + header.size() + static_cast<std::size_t>(at));
    file += header;
    for (const Entry* entry : order)
        if (entry->bytes() > 0)
            file.append(static_cast<const char*>(entry->data),
                        static_cast<std::size_t>(entry->bytes()));
    return file;
}

}  // namespace edgetl::capi
