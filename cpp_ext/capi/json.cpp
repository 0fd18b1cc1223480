// Values of JSON: asked, changed and written; see json.h.
#include "json.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>

#include "boundary.h"

namespace edgetl::capi {
namespace {

constexpr double kMostInteger = 9007199254740992.0;

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
    if (stream.fail() || !stream.eof() || !std::isfinite(value))
        another(where, "a number within range");
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

std::string Json::compact() const {
    std::string to;
    if (type_ == Type::kList) {
        for (const Json& item : items_) to += (to.empty() ? "" : ",") + item.compact();
        return "[" + to + "]";
    }
    if (type_ != Type::kObject) return dump();
    std::vector<const Member*> order;
    for (const Member& member : members_) order.push_back(&member);
    std::sort(order.begin(), order.end(),
              [](const Member* a, const Member* b) { return a->first < b->first; });
    for (const Member* member : order) {
        if (!to.empty()) to += ',';
        write_text(to, member->first);
        to += ":" + member->second.compact();
    }
    return "{" + to + "}";
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
