// The little that the core's own tests need: named tests, checks that go on after a failure and say
// where they stand, and a runner. Stands in for a test framework, so that the tests cross-compile
// with nothing but a compiler. Knows nothing about what it tests.
#pragma once

#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace check {

struct Test {
    const char* name;
    void (*body)();
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Registration {
    Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline void fail(const char* file, int line, const std::string& text) {
    // A loop may fail in every turn; the first ones tell enough.
    if (++failures() <= 20) std::fprintf(stderr, "%s:%d: %s\n", file, line, text.c_str());
}

template <typename Value>
std::string show(const Value& value) {
    std::ostringstream text;
    text.precision(17);
    if constexpr (std::is_enum_v<Value>)
        text << static_cast<long long>(value);
    else
        text << +value;
    return text.str();
}

inline std::string show(const std::string& value) {
    return value;
}

// Runs every test of this program; 1 if any failed.
inline int run_all() {
    int failed = 0;
    for (const Test& test : tests()) {
        const int before = failures();
        try {
            test.body();
        } catch (const std::exception& error) {
            fail(test.name, 0, std::string("unexpected exception: ") + error.what());
        }
        const bool passed = failures() == before;
        failed += passed ? 0 : 1;
        std::printf("%s %s\n", passed ? "ok    " : "FAILED", test.name);
    }
    std::printf("%d of %d tests failed\n", failed, static_cast<int>(tests().size()));
    return failed == 0 && !tests().empty() ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                                     \
    static void name();                                                \
    static const check::Registration registration_##name(#name, name); \
    static void name()

#define CHECK(condition) \
    ((condition) ? void() : check::fail(__FILE__, __LINE__, "does not hold: " #condition))

// `context` says which turn of a loop it is; anything std::string can be added to.
#define CHECK_EQUAL(left, right, context)                                             \
    do {                                                                              \
        const auto& left_value = (left);                                              \
        const auto& right_value = (right);                                            \
        if (!(left_value == right_value))                                             \
            check::fail(__FILE__, __LINE__,                                           \
                        #left " is " + check::show(left_value) + ", " #right " is " + \
                            check::show(right_value) + "; " + std::string(context));  \
    } while (false)

#define CHECK_THROWS(Error, expression)                                                         \
    do {                                                                                        \
        bool thrown = false;                                                                    \
        try {                                                                                   \
            expression;                                                                         \
        } catch (const Error&) {                                                                \
            thrown = true;                                                                      \
        }                                                                                       \
        if (!thrown) check::fail(__FILE__, __LINE__, "did not throw " #Error ": " #expression); \
    } while (false)
