// A head on its way, with all that it learns from. It knows no files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "edgetl.h"
#include "head.h"
#include "learning.h"
#include "statistics.h"

struct edgetl_learner {
    edgetl_head head;  // of one kind; linear ones with `wide` coefficients
    edgetl::capi::LearningFile file;
    edgetl::capi::RidgeStatistics ridge;
    edgetl::capi::LdaStatistics lda;
    std::size_t capacity = 0;  // samples of `file.memory` at most
    std::uint64_t random = 1;  // what the next draw follows from
    std::int64_t samples = 0;  // learned since it was opened or committed
    bool moved = false;        // a class lost its place, or itself

    // Of the bundle that it came from: a digest of its manifest. Empty: none.
    std::string origin;
};

namespace edgetl::capi {

std::unique_ptr<edgetl_learner> make_learner(const edgetl_head& head, std::int32_t kind,
                                             std::string learning);

// Checked samples of one call.
struct Lesson {
    const float* features;
    std::size_t count;
    std::vector<std::int64_t> codes;  // among the classes as they are once the new ones are in
    const double* weights;            // null: ones

    // New classes in the order in which they come in, each with its place at that moment.
    struct Class {
        std::size_t place;
        std::int64_t label;
        std::string name;
    };
    std::vector<Class> fresh;

    double weight(std::size_t i) const { return weights != nullptr ? weights[i] : 1.0; }
};

// Of a linear head; throws Failure unless all is finite.
void take_linear(edgetl_head& head, const std::vector<double>& coef,
                 const std::vector<double>& intercept);

// Learns all of it or, if Failure is thrown, nothing.
void learn(edgetl_learner& learner, const Lesson& lesson);
void forget(edgetl_learner& learner, std::size_t code);

// Keeps the samples of a lesson, all classes alike and of each the newest; for softmax heads.
void remember(edgetl_learner& learner, const Lesson& lesson, std::vector<std::size_t> counts);
void rehearse(edgetl_learner& learner, std::size_t steps);

// What the head needs beside its coefficients; empty where it needs nothing.
std::vector<NamedNumbers> statistics_of(const edgetl_learner& learner);

// The content of the file that the learner can be made from again.
std::string learning_of(const edgetl_learner& learner);

}  // namespace edgetl::capi
