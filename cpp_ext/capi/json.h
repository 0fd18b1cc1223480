// JSON from bytes that nobody vouches for, as a tree that can be changed and written again.
//
// Strict RFC 8259 in UTF-8: nothing after the value, no name twice in an object, no lone
// surrogates. Limits: 16 MiB, 32 levels, 2^18 values. Numbers keep their text, so that what was
// read is written the same. Written as Python's json.dumps(indent=2, ensure_ascii=False) does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace edgetl::capi {

// Bytes of the character that begins at `at`, before `end`; 0 if it is not UTF-8 (RFC 3629).
std::size_t utf8_length(const char* at, const char* end);

class Json {
  public:
    enum class Type { kNull, kFalse, kTrue, kNumber, kText, kList, kObject };
    using Member = std::pair<std::string, Json>;

    // Throws Failure with EDGETL_CORRUPT, or EDGETL_UNSUPPORTED beyond a limit.
    static Json parse(const std::string& bytes);

    Json() = default;
    static Json of_text(std::string text);
    static Json of_number(std::int64_t value);
    static Json of_list(const std::vector<std::string>& texts);
    static Json of_object(std::vector<Member> members);

    Type type() const { return type_; }
    bool is_null() const { return type_ == Type::kNull; }

    // Each throws Failure with EDGETL_CORRUPT if the value is another; `where` is for the message.
    const std::string& text(const char* where) const;
    bool boolean(const char* where) const;
    std::int64_t integer(const char* where) const;  // -2^53 to 2^53
    double number(const char* where) const;         // the nearest one
    const std::vector<Json>& items(const char* where) const;
    const std::vector<Member>& members(const char* where) const;
    const Json& at(const char* name) const;  // of an object that must have it
    const Json* find(const std::string& name) const;

    // Of an object: replaces the member of this name, or adds it at the end.
    void set(const std::string& name, Json value);
    Json& edit(const char* name);
    void remove(const std::string& name);

    std::string dump() const;
    // On one line, without spaces, members by name.
    std::string compact() const;

  private:
    friend class JsonParser;
    void write(std::string& to, std::size_t indent) const;

    Type type_ = Type::kNull;
    std::string text_;  // of a text, decoded; of a number, as written
    std::vector<Json> items_;
    std::vector<Member> members_;
};

}  // namespace edgetl::capi
