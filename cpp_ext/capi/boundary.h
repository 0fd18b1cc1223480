// Where C++ ends: exceptions become codes of edgetl.h and the thread's error text, and structures
// of other versions become this one's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "edgetl.h"

namespace edgetl::capi {

// What stands behind every code but EDGETL_OK.
class Failure : public std::runtime_error {
  public:
    Failure(edgetl_status status, const std::string& text)
        : std::runtime_error(text), status_(status) {}
    edgetl_status status() const { return status_; }

  private:
    edgetl_status status_;
};

[[noreturn]] inline void refuse(const std::string& text) {
    throw Failure(EDGETL_INVALID, text);
}

// Keeps the text, cut to what fits, for edgetl_last_error; returns the status.
edgetl_status failed(edgetl_status status, const char* text) noexcept;

template <typename Body>
edgetl_status guarded(Body&& body) noexcept {
    try {
        body();
        return EDGETL_OK;
    } catch (const Failure& failure) {
        return failed(failure.status(), failure.what());
    } catch (const std::invalid_argument& error) {  // how the core refuses
        return failed(EDGETL_INVALID, error.what());
    } catch (const std::bad_alloc&) {
        return failed(EDGETL_OUT_OF_MEMORY, "out of memory");
    } catch (const std::length_error&) {  // of a container: beyond what addresses reach
        return failed(EDGETL_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception& error) {
        return failed(EDGETL_INTERNAL, error.what());
    } catch (...) {
        return failed(EDGETL_INTERNAL, "an exception of unknown type");
    }
}

// A caller's structure as this version knows it. `first` is the size of its first version.
template <typename Struct>
Struct known(const Struct* given, std::size_t first, const char* name) {
    if (given == nullptr) refuse(std::string(name) + " is NULL");
    std::size_t size = 0;
    std::memcpy(&size, given, sizeof size);
    if (size < first || size > 4096)
        refuse(std::string(name) + ".struct_size is " + std::to_string(size) + ", must be sizeof(" +
               name + "), here " + std::to_string(sizeof(Struct)));
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t i = sizeof(Struct); i < size; ++i)
        if (bytes[i] != 0)
            throw Failure(EDGETL_UNSUPPORTED, std::string(name) + " sets byte " +
                                                  std::to_string(i) +
                                                  ", which this version does not know");
    Struct result{};
    std::memcpy(&result, given, size < sizeof(Struct) ? size : sizeof(Struct));
    return result;
}

}  // namespace edgetl::capi
