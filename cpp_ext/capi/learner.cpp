// C face of learning: checks what it is given, names classes, and commits.
#include "learner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "boundary.h"
#include "bundle.h"
#include "files.h"
#include "sha2.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kMostName = 4096;
constexpr std::size_t kMostClasses = std::size_t{1} << 20;

std::string origin_of(const Manifest& manifest) {
    return sha256_hex(manifest.bytes.data(), manifest.bytes.size()) + manifest.task.name;
}

std::string checked_name(const char* name) {
    if (name == nullptr) refuse("a name is NULL");
    const std::size_t length = std::strlen(name);
    if (length == 0 || length > kMostName)
        refuse("a name has " + std::to_string(length) + " bytes, must have 1 to " +
               std::to_string(kMostName));
    const char* end = name + length;
    for (const char* at = name; at != end;) {
        const std::size_t bytes = utf8_length(at, end);
        if (bytes == 0) refuse("a name is not UTF-8");
        at += bytes;
    }
    return name;
}

void check_samples(const edgetl_learner* learner, const float* features, std::size_t n,
                   std::size_t dim, const void* labels, const double* weights) {
    if (learner == nullptr) refuse("learner is NULL");
    if (n == 0) refuse("there is no sample to learn");
    if (labels == nullptr) refuse("the labels are NULL");
    check_features(learner->head, features, n, dim);
    for (std::size_t i = 0; i < n * dim; ++i)
        if (!std::isfinite(features[i]))
            throw Failure(EDGETL_NOT_FINITE, "feature " + std::to_string(i % dim) + " of sample " +
                                                 std::to_string(i / dim) + " is NaN or infinite");
    for (std::size_t i = 0; weights != nullptr && i < n; ++i)
        if (!(weights[i] > 0) || !std::isfinite(weights[i]))
            refuse("weight " + std::to_string(i) + " must be positive and finite");
}

std::size_t place_of(const std::vector<std::string>& names, const std::string& name) {
    return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

void check_count(std::size_t classes) {
    if (classes >= kMostClasses)
        throw Failure(EDGETL_UNSUPPORTED, "a head of more than 2^20 classes");
}

// New names become the last classes, in the order in which they come.
Lesson named(const edgetl_learner& learner, const float* features, std::size_t n,
             const char* const* names, const double* weights) {
    const edgetl_head& head = learner.head;
    if (head.names.empty()) refuse("the head has no names; it learns by numbers as labels");
    Lesson lesson{features, n, {}, weights, {}};
    std::vector<std::string> known = head.names;
    std::int64_t last = head.labels.back();
    for (std::size_t i = 0; i < n; ++i) {
        const std::string name = checked_name(names[i]);
        const std::size_t place = place_of(known, name);
        if (place == known.size()) {
            check_count(place);
            if (last == std::numeric_limits<std::int64_t>::max())
                throw Failure(EDGETL_UNSUPPORTED, "there is no number left for a new class");
            lesson.fresh.push_back({place, ++last, name});
            known.push_back(name);
        }
        lesson.codes.push_back(static_cast<std::int64_t>(place));
    }
    return lesson;
}

// New labels take their places among the others.
Lesson numbered(const edgetl_learner& learner, const float* features, std::size_t n,
                const std::int64_t* labels, const double* weights) {
    if (!learner.head.names.empty()) refuse("the head has names; it learns by them");
    Lesson lesson{features, n, {}, weights, {}};
    std::vector<std::int64_t> known = learner.head.labels;
    for (std::size_t i = 0; i < n; ++i) {
        const auto at = std::lower_bound(known.begin(), known.end(), labels[i]);
        if (at != known.end() && *at == labels[i]) continue;
        check_count(known.size());
        lesson.fresh.push_back({static_cast<std::size_t>(at - known.begin()), labels[i], ""});
        known.insert(at, labels[i]);
    }
    for (std::size_t i = 0; i < n; ++i)
        lesson.codes.push_back(std::lower_bound(known.begin(), known.end(), labels[i]) -
                               known.begin());
    return lesson;
}

}  // namespace
}  // namespace edgetl::capi

namespace capi = edgetl::capi;

extern "C" {

edgetl_status edgetl_learner_open(const edgetl_bundle* bundle, edgetl_learner** learner) {
    if (learner != nullptr) *learner = nullptr;
    return capi::guarded([&] {
        if (bundle == nullptr || learner == nullptr) capi::refuse("bundle or learner is NULL");
        capi::check_learnable(*bundle);
        const std::string& method = bundle->manifest.task.fixed_by;
        if (!method.empty())
            throw capi::Failure(EDGETL_UNSUPPORTED,
                                "the head was made by the method " + method +
                                    ", and learning samples here would lose what that gained");
        auto made = capi::make_learner(bundle->head, bundle->head.kind, bundle->learning);
        made->origin = capi::origin_of(bundle->manifest);
        *learner = made.release();
    });
}

edgetl_status edgetl_learner_create(const edgetl_head* head, int32_t kind, const void* learning,
                                    size_t bytes, edgetl_learner** learner) {
    if (learner != nullptr) *learner = nullptr;
    return capi::guarded([&] {
        if (head == nullptr || learner == nullptr) capi::refuse("head or learner is NULL");
        if (learning == nullptr && bytes > 0) capi::refuse("learning is NULL");
        if (bytes > capi::kMostFile)
            throw capi::Failure(EDGETL_UNSUPPORTED, "what to learn on from has more than 1 GiB");
        std::string content(static_cast<const char*>(learning), bytes);
        *learner = capi::make_learner(*head, kind, std::move(content)).release();
    });
}

void edgetl_learner_free(edgetl_learner* learner) {
    delete learner;
}

edgetl_status edgetl_learner_learn(edgetl_learner* learner, const float* features, size_t n,
                                   size_t dim, const char* const* names, const double* weights) {
    return capi::guarded([&] {
        capi::check_samples(learner, features, n, dim, names, weights);
        capi::learn(*learner, capi::named(*learner, features, n, names, weights));
    });
}

edgetl_status edgetl_learner_learn_labels(edgetl_learner* learner, const float* features, size_t n,
                                          size_t dim, const int64_t* labels,
                                          const double* weights) {
    return capi::guarded([&] {
        capi::check_samples(learner, features, n, dim, labels, weights);
        capi::learn(*learner, capi::numbered(*learner, features, n, labels, weights));
    });
}

edgetl_status edgetl_learner_rehearse(edgetl_learner* learner, size_t steps) {
    return capi::guarded([&] {
        if (learner == nullptr) capi::refuse("learner is NULL");
        capi::rehearse(*learner, steps);
    });
}

edgetl_status edgetl_learner_forget(edgetl_learner* learner, const char* name) {
    return capi::guarded([&] {
        if (learner == nullptr || name == nullptr) capi::refuse("learner or name is NULL");
        const std::size_t place = capi::place_of(learner->head.names, name);
        if (place == learner->head.names.size()) capi::refuse("there is no class of this name");
        capi::forget(*learner, place);
    });
}

edgetl_status edgetl_learner_forget_label(edgetl_learner* learner, int64_t label) {
    return capi::guarded([&] {
        if (learner == nullptr) capi::refuse("learner is NULL");
        if (!learner->head.names.empty()) capi::refuse("the head has names; it forgets by them");
        const auto& labels = learner->head.labels;
        const auto at = std::lower_bound(labels.begin(), labels.end(), label);
        if (at == labels.end() || *at != label)
            capi::refuse("there is no class " + std::to_string(label));
        capi::forget(*learner, static_cast<std::size_t>(at - labels.begin()));
    });
}

edgetl_status edgetl_learner_head(const edgetl_learner* learner, edgetl_head** head) {
    if (head != nullptr) *head = nullptr;
    return capi::guarded([&] {
        if (learner == nullptr || head == nullptr) capi::refuse("learner or head is NULL");
        *head = new edgetl_head(learner->head);
    });
}

edgetl_status edgetl_bundle_commit(const edgetl_bundle* bundle, edgetl_learner* learner,
                                   edgetl_bundle** updated) {
    if (updated != nullptr) *updated = nullptr;
    return capi::guarded([&] {
        if (bundle == nullptr || learner == nullptr) capi::refuse("bundle or learner is NULL");
        if (learner->origin != capi::origin_of(bundle->manifest))
            capi::refuse("the learner was not made from this bundle as it was opened");
        const capi::TaskRecord& task = bundle->manifest.task;
        capi::NewHead fresh{&learner->head, capi::learning_of(*learner), task.generation + 1,
                            task.applied, task.samples + learner->samples};
        const std::string manifest = capi::commit(*bundle, fresh);
        learner->origin = capi::sha256_hex(manifest.data(), manifest.size()) + task.name;
        learner->samples = 0;
        if (updated != nullptr)
            *updated = capi::open_bundle(bundle->folder, task.name.c_str()).release();
    });
}

}  // extern "C"
