// The libjpeg-turbo that tests and fuzzers decode with: the one EDGETL_TEST_LIBJPEG names, since
// the core brings none. Without it, what needs one is left out, and says so once.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "edgetl/jpeg.h"

namespace check {

inline const std::shared_ptr<const edgetl::JpegLibrary>& jpeg_library() {
    static const std::shared_ptr<const edgetl::JpegLibrary> library =
        []() -> std::shared_ptr<const edgetl::JpegLibrary> {
        const char* path = std::getenv("EDGETL_TEST_LIBJPEG");
        if (path == nullptr || *path == '\0') {
            std::fprintf(stderr,
                         "nothing is decoded: EDGETL_TEST_LIBJPEG names no libjpeg-turbo\n");
            return nullptr;
        }
        return std::make_shared<const edgetl::JpegLibrary>(path);  // a wrong path is an error
    }();
    return library;
}

}  // namespace check
