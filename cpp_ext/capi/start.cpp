// Learners from heads and what they learn on from, and back; see learner.h.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "boundary.h"
#include "learner.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kMemory = 2000000;  // bytes of kept features, as a bundle has by default

// Statistics that imply another head than this one are another head's, or from another time of it.
void check_same(const std::vector<double>& found, const std::vector<double>& known) {
    double most = 0, apart = 0;
    for (std::size_t i = 0; i < known.size(); ++i) {
        most = std::max(most, std::abs(known[i]));
        apart = std::max(apart, std::abs(found[i] - known[i]));
    }
    if (!(apart <= 1e-5 * most))
        throw Failure(EDGETL_CORRUPT,
                      "the statistics imply other coefficients than the head has: they are another "
                      "head's, or from before or after it");
}

void need_every_class(const edgetl_learner& learner) {
    std::vector<bool> seen(learner.head.classes);
    for (const std::int64_t code : learner.file.memory.codes)
        seen[static_cast<std::size_t>(code)] = true;
    if (std::find(seen.begin(), seen.end(), false) != seen.end())
        throw Failure(EDGETL_UNSUPPORTED,
                      "a " + std::string(kind_name(learner.head.kind)) +
                          " head has neither statistics nor kept samples of every class to learn "
                          "on from: it came by an update, or the bundle was made without "
                          "(--memory-mb)");
}

void start_ridge(edgetl_learner& learner) {
    edgetl_head& head = learner.head;
    const std::size_t dim = head.features, classes = head.classes;
    if (!learner.file.has_statistics()) {
        need_every_class(learner);
        learner.ridge = RidgeStatistics::empty(dim, classes, head.strength);
        const Samples& memory = learner.file.memory;
        for (std::size_t i = 0; i < memory.count(); ++i)
            learner.ridge.add(memory.row(i), static_cast<std::size_t>(memory.codes[i]),
                              memory.weights[i]);
    } else {
        const LearningFile& file = learner.file;
        RidgeStatistics& state = learner.ridge;
        state.inverse = file.statistics("inverse", {dim * (dim + 1) / 2});
        state.coef = file.statistics("coef", {classes, dim});
        state.intercept = file.statistics("intercept", {classes});
        state.mean = file.statistics("mean", {dim});
        state.target_mean = file.statistics("target_mean", {classes});
        state.total = file.statistics("total", {1});
        check_same(state.coef, head.wide);
        check_same(state.intercept, head.intercept);
        bool positive = state.total[0] > 0;
        for (std::size_t i = 0; i < dim; ++i)
            positive = positive && state.inverse[i * (i + 1) / 2 + i] > 0;
        if (!positive)
            throw Failure(EDGETL_CORRUPT,
                          "statistics of ridge: the total and the diagonal of the "
                          "inverse must be positive");
    }
    take_linear(head, learner.ridge.coef, learner.ridge.intercept);
}

void start_lda(edgetl_learner& learner) {
    edgetl_head& head = learner.head;
    const std::size_t dim = head.features;
    std::vector<double> coef, intercept;
    if (!(head.strength <= 1))
        throw Failure(EDGETL_CORRUPT, "the strength of an LDA head must be at most 1");
    if (!learner.file.has_statistics()) {
        need_every_class(learner);
        LdaStatistics& state = learner.lda = LdaStatistics::empty(dim);
        for (std::size_t c = 0; c < head.classes; ++c) state.insert_class(c, dim);
        const Samples& memory = learner.file.memory;
        for (std::size_t i = 0; i < memory.count(); ++i)
            state.add(memory.row(i), static_cast<std::size_t>(memory.codes[i]), memory.weights[i]);
        state.discriminants(head.strength, &coef, &intercept);
    } else {
        learner.lda = LdaStatistics::restored(learner.file, dim, head.classes);
        learner.lda.discriminants(head.strength, &coef, &intercept);
        check_same(coef, head.wide);
        check_same(intercept, head.intercept);
    }
    take_linear(head, coef, intercept);
}

}  // namespace

void take_linear(edgetl_head& head, const std::vector<double>& coef,
                 const std::vector<double>& intercept) {
    for (const auto* values : {&coef, &intercept})
        for (const double value : *values)
            if (!std::isfinite(value))
                throw Failure(EDGETL_NOT_FINITE, "what was learned is beyond range");
    head.wide = coef;
    head.intercept = intercept;
}

std::unique_ptr<edgetl_learner> make_learner(const edgetl_head& head, std::int32_t kind,
                                             std::string learning) {
    auto learner = std::make_unique<edgetl_learner>();
    learner->head = head;
    edgetl_head& own = learner->head;
    if (own.kind == EDGETL_LINEAR && kind <= EDGETL_LDA) own.kind = kind;
    if (own.kind != kind || kind < EDGETL_SOFTMAX || kind > EDGETL_KNN)
        refuse("kind is " + std::to_string(kind) + ", the head is " + kind_name(head.kind));
    if (!own.narrow.empty()) own.wide.assign(own.narrow.begin(), own.narrow.end());
    std::vector<float>().swap(own.narrow);
    if (own.labels.empty())
        for (std::size_t c = 0; c < own.classes; ++c)
            own.labels.push_back(static_cast<std::int64_t>(c));
    if (!learning.empty())
        learner->file = LearningFile(std::move(learning), own.features, own.classes);
    learner->file.memory.dim = learner->file.guard.dim = own.features;
    learner->capacity = std::max(learner->file.memory.count(), kMemory / (2 * own.features));
    // Of the matrix, also where addresses have 32 bits: its size is counted in them.
    if ((kind == EDGETL_RIDGE || kind == EDGETL_LDA) &&
        own.features > std::numeric_limits<std::size_t>::max() / 16 / own.features)
        throw std::bad_alloc();
    if (kind == EDGETL_RIDGE) start_ridge(*learner);
    if (kind == EDGETL_LDA) start_lda(*learner);
    return learner;
}

std::vector<NamedNumbers> statistics_of(const edgetl_learner& learner) {
    const edgetl_head& head = learner.head;
    const std::size_t dim = head.features, classes = head.classes;
    if (head.kind == EDGETL_LDA) return learner.lda.numbers(head.strength);
    if (head.kind != EDGETL_RIDGE) return {};
    const RidgeStatistics& state = learner.ridge;
    return {
        {"inverse", {state.inverse.size()}, state.inverse}, {"coef", {classes, dim}, state.coef},
        {"intercept", {classes}, state.intercept},          {"mean", {dim}, state.mean},
        {"target_mean", {classes}, state.target_mean},      {"total", {1}, state.total}};
}

std::string learning_of(const edgetl_learner& learner) {
    const std::vector<NamedNumbers> statistics = statistics_of(learner);
    // What knows classes by their places knows them no longer once one lost its own.
    const std::vector<Array> others = learner.moved ? std::vector<Array>() : learner.file.others();
    const LearningFile& file = learner.file;
    if (file.memory.count() == 0 && file.guard.count() == 0 && statistics.empty() && others.empty())
        return {};
    return learning_bytes(file.memory, file.guard, statistics, others);
}

}  // namespace edgetl::capi
