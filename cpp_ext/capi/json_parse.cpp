// The parser of json.h: recursive, with a limit of depth.
#include <algorithm>

#include "boundary.h"
#include "json.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 24;
constexpr std::size_t kMostValues = std::size_t{1} << 18;
constexpr int kMostDepth = 32;

bool digit(char c) {
    return c >= '0' && c <= '9';
}

void append_utf8(std::string& text, std::uint32_t point) {
    const auto add = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
    if (point < 0x80) return add(point);
    if (point < 0x800) {
        add(0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            add(0xe0 | point >> 12);
        } else {
            add(0xf0 | point >> 18);
            add(0x80 | (point >> 12 & 63));
        }
        add(0x80 | (point >> 6 & 63));
    }
    add(0x80 | (point & 63));
}

}  // namespace

std::size_t utf8_length(const char* at, const char* end) {
    const auto first = static_cast<unsigned char>(*at);
    if (first < 0x80) return 1;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || end - at <= more) return 0;
    std::uint32_t point = first & (0x3fu >> more);
    for (int i = 1; i <= more; ++i) {
        const auto next = static_cast<unsigned char>(at[i]);
        if (next >> 6 != 2) return 0;
        point = point << 6 | (next & 63u);
    }
    static constexpr std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (point < least[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return 0;
    return static_cast<std::size_t>(more) + 1;
}

class JsonParser {
  public:
    JsonParser(const char* begin, const char* end) : begin_(begin), at_(begin), end_(end) {}

    Json document() {
        Json value = read(0);
        space();
        if (at_ != end_) wrong("its end");
        return value;
    }

  private:
    [[noreturn]] void wrong(const char* expected) const {
        throw Failure(EDGETL_CORRUPT, "not JSON: expected " + std::string(expected) + " at byte " +
                                          std::to_string(at_ - begin_));
    }

    void space() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
    }

    bool take(char token) {
        space();
        if (at_ == end_ || *at_ != token) return false;
        ++at_;
        return true;
    }

    void word(const char* letters) {
        for (; *letters != '\0'; ++letters, ++at_)
            if (at_ == end_ || *at_ != *letters) wrong("a value");
    }

    Json read(int depth) {
        if (depth > kMostDepth || ++values_ > kMostValues)
            throw Failure(EDGETL_UNSUPPORTED, "the JSON is too deep or has too many values");
        space();
        if (at_ == end_) wrong("a value");
        Json value;
        switch (*at_) {
            case '{':
                read_object(value, depth);
                break;
            case '[':
                read_list(value, depth);
                break;
            case '"':
                value.type_ = Json::Type::kText;
                value.text_ = string();
                break;
            case 't':
                word("true");
                value.type_ = Json::Type::kTrue;
                break;
            case 'f':
                word("false");
                value.type_ = Json::Type::kFalse;
                break;
            case 'n':
                word("null");
                break;
            default:
                value.type_ = Json::Type::kNumber;
                value.text_ = number();
        }
        return value;
    }

    void read_object(Json& value, int depth) {
        value.type_ = Json::Type::kObject;
        ++at_;
        if (take('}')) return;
        do {
            space();
            std::string name = string();
            if (!take(':')) wrong("a ':'");
            Json member = read(depth + 1);
            value.members_.emplace_back(std::move(name), std::move(member));
        } while (take(','));
        if (!take('}')) wrong("a '}'");
        std::vector<const std::string*> names;
        for (const auto& member : value.members_) names.push_back(&member.first);
        std::sort(names.begin(), names.end(),
                  [](const std::string* a, const std::string* b) { return *a < *b; });
        for (std::size_t i = 1; i < names.size(); ++i)
            if (*names[i - 1] == *names[i]) wrong("different names in an object that ended");
    }

    void read_list(Json& value, int depth) {
        value.type_ = Json::Type::kList;
        ++at_;
        if (take(']')) return;
        do value.items_.push_back(read(depth + 1));
        while (take(','));
        if (!take(']')) wrong("a ']'");
    }

    std::string number() {
        const char* first = at_;
        const auto digits = [&] {
            if (at_ == end_ || !digit(*at_)) wrong("a value");
            while (at_ != end_ && digit(*at_)) ++at_;
        };
        if (*at_ == '-') ++at_;
        if (at_ != end_ && *at_ == '0')
            ++at_;
        else
            digits();
        if (at_ != end_ && *at_ == '.') ++at_, digits();
        if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
            ++at_;
            if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
            digits();
        }
        return {first, at_};
    }

    std::uint32_t four_digits() {
        std::uint32_t value = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            if (at_ == end_) wrong("four hexadecimal digits");
            const char c = *at_;
            const int found = digit(c)               ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (found < 0) wrong("four hexadecimal digits");
            value = value << 4 | static_cast<std::uint32_t>(found);
        }
        return value;
    }

    void escape(std::string& text) {
        if (at_ == end_) wrong("the end of a text");
        static constexpr char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char c = *at_++;
        for (int i = 0; letters[i] != '\0'; ++i)
            if (letters[i] == c) {
                text += meant[i];
                return;
            }
        if (c != 'u') wrong("an escape");
        std::uint32_t point = four_digits();
        if (point >= 0xdc00 && point < 0xe000) wrong("a pair of surrogates");
        if (point >= 0xd800 && point < 0xdc00) {
            if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') wrong("a pair of surrogates");
            at_ += 2;
            const std::uint32_t low = four_digits();
            if (low < 0xdc00 || low >= 0xe000) wrong("a pair of surrogates");
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        }
        append_utf8(text, point);
    }

    void multibyte(std::string& text) {
        const std::size_t length = utf8_length(at_, end_);
        if (length == 0) wrong("UTF-8");
        text.append(at_, length);
        at_ += length;
    }

    std::string string() {
        if (at_ == end_ || *at_ != '"') wrong("a text");
        ++at_;
        std::string text;
        while (at_ != end_ && *at_ != '"') {
            const auto c = static_cast<unsigned char>(*at_);
            if (c < 0x20) wrong("text");
            if (c >= 0x80)
                multibyte(text);
            else if (c == '\\')
                ++at_, escape(text);
            else
                text += *at_++;
        }
        if (at_ == end_) wrong("the end of a text");
        ++at_;
        return text;
    }

    const char* begin_;
    const char* at_;
    const char* end_;
    std::size_t values_ = 0;
};

Json Json::parse(const std::string& bytes) {
    if (bytes.size() > kMostBytes)
        throw Failure(EDGETL_UNSUPPORTED, "the JSON has " + std::to_string(bytes.size()) +
                                              " bytes; at most 16 MiB are read");
    return JsonParser(bytes.data(), bytes.data() + bytes.size()).document();
}

}  // namespace edgetl::capi
