// A recursive parser with a limit of depth, and a writer; see json.h.
#include "json.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>

#include "boundary.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 24;
constexpr std::size_t kMostValues = std::size_t{1} << 18;
constexpr int kMostDepth = 32;
constexpr double kMostInteger = 9007199254740992.0;

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

    // A character of more than one byte (RFC 3629).
    void multibyte(std::string& text) {
        const auto first = static_cast<unsigned char>(*at_);
        const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end_ - at_ <= more) wrong("UTF-8");
        std::uint32_t point = first & (0x3fu >> more);
        for (int i = 1; i <= more; ++i) {
            const auto next = static_cast<unsigned char>(at_[i]);
            if (next >> 6 != 2) wrong("UTF-8");
            point = point << 6 | (next & 63u);
        }
        static constexpr std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (point < least[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
            wrong("UTF-8");
        text.append(at_, static_cast<std::size_t>(more) + 1);
        at_ += more + 1;
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

namespace {

[[noreturn]] void another(const char* where, const char* expected) {
    throw Failure(EDGETL_CORRUPT, "the manifest's " + std::string(where) + " is not " + expected);
}

void write_text(std::string& to, const std::string& text) {
    to += '"';
    for (const char c : text) {
        static constexpr char letters[] = "\"\\bfnrt", meant[] = "\"\\\b\f\n\r\t";
        const std::size_t place = std::string(meant).find(c);
        if (place != std::string::npos && c != '\0') {
            to += '\\';
            to += letters[place];
        } else if (static_cast<unsigned char>(c) < 0x20) {
            to += "\\u00";
            to += "0123456789abcdef"[c >> 4];
            to += "0123456789abcdef"[c & 15];
        } else {
            to += c;
        }
    }
    to += '"';
}

}  // namespace

Json Json::parse(const std::string& bytes) {
    if (bytes.size() > kMostBytes)
        throw Failure(EDGETL_UNSUPPORTED, "the JSON has " + std::to_string(bytes.size()) +
                                              " bytes; at most 16 MiB are read");
    return JsonParser(bytes.data(), bytes.data() + bytes.size()).document();
}

Json Json::of_text(std::string text) {
    Json value;
    value.type_ = Type::kText;
    value.text_ = std::move(text);
    return value;
}

Json Json::of_number(std::int64_t number) {
    Json value;
    value.type_ = Type::kNumber;
    value.text_ = std::to_string(number);
    return value;
}

Json Json::of_list(const std::vector<std::string>& texts) {
    Json value;
    value.type_ = Type::kList;
    for (const std::string& text : texts) value.items_.push_back(of_text(text));
    return value;
}

Json Json::of_object(std::vector<Member> members) {
    Json value;
    value.type_ = Type::kObject;
    value.members_ = std::move(members);
    return value;
}

const std::string& Json::text(const char* where) const {
    if (type_ != Type::kText) another(where, "a text");
    return text_;
}

bool Json::boolean(const char* where) const {
    if (type_ != Type::kTrue && type_ != Type::kFalse) another(where, "true or false");
    return type_ == Type::kTrue;
}

double Json::number(const char* where) const {
    if (type_ != Type::kNumber) another(where, "a number");
    // The program's own locale may write the point as a comma.
    std::istringstream stream(text_);
    stream.imbue(std::locale::classic());
    double value = 0;
    stream >> value;
    if (stream.fail() || !stream.eof() || !std::isfinite(value)) another(where, "a number within range");
    return value;
}

std::int64_t Json::integer(const char* where) const {
    const double value = number(where);
    if (text_.find_first_of(".eE") != std::string::npos || std::abs(value) > kMostInteger)
        another(where, "a whole number within range");
    return static_cast<std::int64_t>(value);
}

const std::vector<Json>& Json::items(const char* where) const {
    if (type_ != Type::kList) another(where, "a list");
    return items_;
}

const std::vector<Json::Member>& Json::members(const char* where) const {
    if (type_ != Type::kObject) another(where, "an object");
    return members_;
}

const Json* Json::find(const std::string& name) const {
    for (const Member& member : members_)
        if (member.first == name) return &member.second;
    return nullptr;
}

const Json& Json::at(const char* name) const {
    const Json* found = find(name);
    if (found == nullptr)
        throw Failure(EDGETL_CORRUPT, "the manifest lacks '" + std::string(name) + "'");
    return *found;
}

void Json::set(const std::string& name, Json value) {
    for (Member& member : members_)
        if (member.first == name) {
            member.second = std::move(value);
            return;
        }
    members_.emplace_back(name, std::move(value));
}

Json& Json::edit(const char* name) {
    return const_cast<Json&>(at(name));
}

void Json::remove(const std::string& name) {
    members_.erase(std::remove_if(members_.begin(), members_.end(),
                                  [&](const Member& member) { return member.first == name; }),
                   members_.end());
}

std::string Json::dump() const {
    std::string to;
    write(to, 0);
    return to;
}

void Json::write(std::string& to, std::size_t indent) const {
    const auto line = [&](std::size_t by) {
        to += '\n';
        to.append(by, ' ');
    };
    switch (type_) {
        case Type::kNull:
            to += "null";
            break;
        case Type::kFalse:
            to += "false";
            break;
        case Type::kTrue:
            to += "true";
            break;
        case Type::kNumber:
            to += text_;
            break;
        case Type::kText:
            write_text(to, text_);
            break;
        case Type::kList:
            to += '[';
            for (std::size_t i = 0; i < items_.size(); ++i) {
                if (i > 0) to += ',';
                line(indent + 2);
                items_[i].write(to, indent + 2);
            }
            if (!items_.empty()) line(indent);
            to += ']';
            break;
        case Type::kObject:
            to += '{';
            for (std::size_t i = 0; i < members_.size(); ++i) {
                if (i > 0) to += ',';
                line(indent + 2);
                write_text(to, members_[i].first);
                to += ": ";
                members_[i].second.write(to, indent + 2);
            }
            if (!members_.empty()) line(indent);
            to += '}';
    }
}

}  // namespace edgetl::capi
