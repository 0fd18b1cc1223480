// Opens a libjpeg-turbo that is on the machine, and makes sure that it is what it should be.
#include <stdexcept>
#include <string_view>

#include "edgetl/jpeg.h"
#include "jpeg_abi.h"

#if (defined(__unix__) || defined(__APPLE__)) && defined(__LP64__)
#define EDGETL_HAS_DLOPEN 1
#include <dlfcn.h>
#endif

namespace edgetl {

JpegLibrary::~JpegLibrary() = default;

#ifdef EDGETL_HAS_DLOPEN

namespace {

template <typename Function>
void find(void* handle, const char* symbol, Function** function) {
    void* address = dlsym(handle, symbol);
    if (address == nullptr) throw std::runtime_error(std::string("it has no ") + symbol);
    *function = reinterpret_cast<Function*>(address);
}

// Its messages have a line about copyright, which names it. None has its version.
void check_name(const jpeg::Functions& functions) {
    jpeg::ErrorManager errors{};
    functions.std_error(&errors);
    if (errors.messages == nullptr || errors.last_message < 1 || errors.last_message > 1000)
        throw std::runtime_error("its messages make no sense");
    for (int i = 0; i <= errors.last_message; ++i) {
        const std::string_view text = errors.messages[i] != nullptr ? errors.messages[i] : "";
        if (text.find("libjpeg-turbo") != text.npos) return;
    }
    throw std::runtime_error("it is not libjpeg-turbo");
}

}  // namespace

JpegLibrary::JpegLibrary(const std::string& path)
    : functions_(std::make_unique<jpeg::Functions>()) {
    // Never closed: other code of the process may use it, and so may threads until the very end.
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        const char* reason = dlerror();
        throw std::runtime_error(reason != nullptr ? reason : "it can't be opened");
    }
    jpeg::Functions& f = *functions_;
    find(handle, "jpeg_std_error", &f.std_error);
    find(handle, "jpeg_CreateDecompress", &f.create);
    find(handle, "jpeg_mem_src", &f.memory_source);
    find(handle, "jpeg_read_header", &f.read_header);
    find(handle, "jpeg_calc_output_dimensions", &f.output_dimensions);
    find(handle, "jpeg_start_decompress", &f.start);
    find(handle, "jpeg_crop_scanline", &f.crop);
    find(handle, "jpeg_skip_scanlines", &f.skip_rows);
    find(handle, "jpeg_read_scanlines", &f.read_rows);
    find(handle, "jpeg_finish_decompress", &f.finish);
    find(handle, "jpeg_destroy_decompress", &f.destroy);
    void (*since_3)() = nullptr;  // what version 3 brought
    find(handle, "jpeg12_crop_scanline", &since_3);
    check_name(f);
}

#else

JpegLibrary::JpegLibrary(const std::string&) {
    throw std::runtime_error("no library can be opened on this system");
}

#endif

}  // namespace edgetl
