// The error text of each thread, and the version; see boundary.h.
#include "boundary.h"

#include <cstdio>

namespace edgetl::capi {
namespace {

// Plain bytes: nothing to be destroyed when a thread ends after the library was unloaded.
thread_local char last_error[512] = "";

}  // namespace

edgetl_status failed(edgetl_status status, const char* text) noexcept {
    std::snprintf(last_error, sizeof last_error, "%s", text);
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
