// What a softmax head has to be shown again, and how it is; see learner.h.
#include <algorithm>

#include "boundary.h"
#include "edgetl/heads.h"
#include "learner.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kRehearsed = 32;  // samples per step

std::int64_t signed_of(std::size_t value) {
    return static_cast<std::int64_t>(value);
}

}  // namespace

void remember(edgetl_learner& learner, const Lesson& lesson, std::vector<std::size_t> counts) {
    Samples& memory = learner.file.memory;
    memory.dim = learner.head.features;
    for (std::size_t i = 0; i < lesson.count; ++i) {
        const float* row = lesson.features + i * memory.dim;
        memory.features.insert(memory.features.end(), row, row + memory.dim);
        memory.codes.push_back(lesson.codes[i]);
        memory.weights.push_back(lesson.weight(i));
    }
    for (const std::int64_t code : memory.codes) ++counts[static_cast<std::size_t>(code)];
    while (memory.count() > learner.capacity) {
        const auto most = std::max_element(counts.begin(), counts.end());
        const auto code = static_cast<std::int64_t>(most - counts.begin());
        const auto oldest = std::find(memory.codes.begin(), memory.codes.end(), code);
        memory.erase(static_cast<std::size_t>(oldest - memory.codes.begin()));
        --*most;
    }
}

void rehearse(edgetl_learner& learner, std::size_t steps) {
    edgetl_head& head = learner.head;
    const Samples& memory = learner.file.memory;
    if (head.kind != EDGETL_SOFTMAX || memory.count() == 0) return;
    const std::size_t dim = head.features;
    std::vector<std::vector<std::size_t>> by_class(head.classes);
    for (std::size_t i = 0; i < memory.count(); ++i)
        by_class[static_cast<std::size_t>(memory.codes[i])].push_back(i);
    by_class.erase(std::remove_if(by_class.begin(), by_class.end(),
                                  [](const auto& rows) { return rows.empty(); }),
                   by_class.end());
    const auto draw = [&](std::size_t below) {  // splitmix64
        std::uint64_t z = learner.random += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return static_cast<std::size_t>((z ^ (z >> 31)) % below);
    };
    std::vector<double> coef(head.wide), intercept(head.intercept);
    std::vector<double> scratch(kRehearsed * head.classes);
    std::vector<float> features(kRehearsed * dim);
    std::vector<std::int64_t> codes(kRehearsed);
    for (std::size_t s = 0; s < steps; ++s) {
        double most = 0, loss = 0;
        for (std::size_t i = 0; i < kRehearsed; ++i) {
            const auto& rows = by_class[draw(by_class.size())];
            const std::size_t row = rows[draw(rows.size())];
            std::copy(memory.row(row), memory.row(row) + dim,
                      features.begin() + signed_of(i * dim));
            codes[i] = memory.codes[row];
            double size = 1;
            for (std::size_t j = 0; j < dim; ++j)
                size += static_cast<double>(memory.row(row)[j]) * memory.row(row)[j];
            most = std::max(most, size);
        }
        const SgdStep step{1 / most, 0, 0};
        if (softmax_step(features.data(), codes.data(), nullptr, signed_of(kRehearsed),
                         signed_of(dim), signed_of(head.classes), step, coef.data(),
                         intercept.data(), nullptr, nullptr, scratch.data(), &loss,
                         best_isa()) != Status::kOk)
            throw Failure(EDGETL_NOT_FINITE, "a score of what is rehearsed is beyond range");
    }
    take_linear(head, coef, intercept);
}

}  // namespace edgetl::capi
