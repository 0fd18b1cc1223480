// C face of heads: loading, asking, scoring and saving.
#include "head.h"

#include <limits>
#include <string>

#include "boundary.h"
#include "files.h"

namespace capi = edgetl::capi;

namespace edgetl::capi {

const char* kind_name(std::int32_t kind) {
    static const char* const names[] = {"linear", "softmax", "ridge", "lda", "prototype", "knn"};
    return kind >= EDGETL_LINEAR && kind <= EDGETL_KNN ? names[kind] : "unknown";
}

}  // namespace edgetl::capi

extern "C" {

edgetl_status edgetl_head_load_memory(const void* data, size_t bytes, edgetl_head** head) {
    if (head != nullptr) *head = nullptr;
    return capi::guarded([&] {
        if (head == nullptr || data == nullptr) capi::refuse("data or head is NULL");
        *head = capi::read_head(static_cast<const unsigned char*>(data), bytes).release();
    });
}

edgetl_status edgetl_head_load_file(const char* path, edgetl_head** head) {
    if (head != nullptr) *head = nullptr;
    return capi::guarded([&] {
        if (head == nullptr || path == nullptr) capi::refuse("path or head is NULL");
        const std::string bytes = capi::read_file(path, capi::kMostFile);
        *head = capi::read_head(capi::bytes_of(bytes), bytes.size()).release();
    });
}

void edgetl_head_free(edgetl_head* head) {
    delete head;
}

size_t edgetl_head_classes(const edgetl_head* head) {
    return head != nullptr ? head->classes : 0;
}

size_t edgetl_head_features(const edgetl_head* head) {
    return head != nullptr ? head->features : 0;
}

const int64_t* edgetl_head_labels(const edgetl_head* head) {
    return head != nullptr && !head->labels.empty() ? head->labels.data() : nullptr;
}

int32_t edgetl_head_kind(const edgetl_head* head) {
    return head != nullptr ? head->kind : EDGETL_LINEAR;
}

const char* edgetl_head_name(const edgetl_head* head, size_t index) {
    return head != nullptr && index < head->names.size() ? head->names[index].c_str() : nullptr;
}

edgetl_status edgetl_head_probabilities(const edgetl_head* head, const float* features, size_t n,
                                        size_t dim, double* out, size_t out_count) {
    return capi::guarded([&] {
        if (head == nullptr) capi::refuse("head is NULL");
        capi::check_features(*head, features, n, dim);
        if (n == 0) return;
        if (out == nullptr) capi::refuse("out is NULL");
        if (out_count / head->classes < n)
            capi::refuse("out has " + std::to_string(out_count) + " values, needs " +
                         std::to_string(n) + " x " + std::to_string(head->classes));
        capi::score(*head, features, n, out);
    });
}

edgetl_status edgetl_head_save(const edgetl_head* head, const char* path) {
    return capi::guarded([&] {
        if (head == nullptr || path == nullptr) capi::refuse("head or path is NULL");
        capi::replace_file(path, capi::head_bytes(*head));
    });
}

}  // extern "C"
