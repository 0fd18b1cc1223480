// The error text of each thread, and the version; see boundary.h.
#include "boundary.h"

#include <algorithm>
#include <cstring>

#include "json.h"

namespace edgetl::capi {
namespace {

// Plain bytes: nothing to be destroyed when a thread ends after the library was unloaded.
thread_local char last_error[512] = "";

}  // namespace

edgetl_status failed(edgetl_status status, const char* text) noexcept {
    // Whole characters, and only those: a wrapper may have to make another kind of text of it.
    const char* end = text + std::strlen(text);
    std::size_t at = 0;
    while (text != end) {
        const std::size_t length = utf8_length(text, end);
        if (at + std::max<std::size_t>(length, 1) >= sizeof last_error) break;
        if (length == 0) last_error[at++] = '?', ++text;
        for (std::size_t i = 0; i < length; ++i) last_error[at++] = *text++;
    }
    last_error[at] = '\0';
    return status;
}

}  // namespace edgetl::capi

extern "C" {

uint32_t edgetl_abi_version(void) {
    return EDGETL_ABI_VERSION;
}

const char* edgetl_last_error(void) {
    return edgetl::capi::last_error;
}

}  // extern "C"
