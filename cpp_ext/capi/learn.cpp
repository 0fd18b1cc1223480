// How each kind of head learns, as the `_learn` and `_keep` of edgetl/heads do; see learner.h.
#include <algorithm>
#include <cmath>

#include "boundary.h"
#include "edgetl/heads.h"
#include "learner.h"

namespace edgetl::capi {
namespace {

std::int64_t signed_of(std::size_t value) {
    return static_cast<std::int64_t>(value);
}

template <typename Values>
void insert_row(Values& rows, std::size_t place, const Values& row) {
    rows.insert(rows.begin() + signed_of(place * row.size()), row.begin(), row.end());
}

template <typename Values>
void erase_row(Values& rows, std::size_t place, std::size_t dim) {
    const auto first = rows.begin() + signed_of(place * dim);
    rows.erase(first, first + signed_of(dim));
}

// The mean of the rows: what a new class of a softmax head starts as.
std::vector<double> mean_row(const std::vector<double>& rows, std::size_t dim) {
    std::vector<double> mean(dim, 0.0);
    const std::size_t count = rows.size() / dim;
    for (std::size_t c = 0; c < count; ++c)
        for (std::size_t i = 0; i < dim; ++i) mean[i] += rows[c * dim + i];
    for (double& value : mean) value /= static_cast<double>(count);
    return mean;
}

// All that a lesson changes but samples that are kept and matrices of (dim, dim).
struct Next {
    edgetl_head head;
    RidgeStatistics ridge;
    LdaStatistics lda;
};

// Classes of a softmax head start as the mean of those from before the lesson.
void insert_class(Next& next, const Lesson::Class& fresh, const std::vector<double>& row,
                  double intercept) {
    edgetl_head& head = next.head;
    const std::size_t dim = head.features;
    if (head.kind == EDGETL_SOFTMAX) {
        insert_row(head.wide, fresh.place, row);
        insert_row(head.intercept, fresh.place, std::vector<double>{intercept});
    } else if (head.kind == EDGETL_RIDGE) {
        next.ridge.insert_class(fresh.place, dim);
    } else if (head.kind == EDGETL_LDA) {
        next.lda.insert_class(fresh.place, dim);
    } else if (head.kind == EDGETL_PROTOTYPE) {
        insert_row(head.means, fresh.place, std::vector<double>(dim, 0.0));
        insert_row(head.totals, fresh.place, std::vector<double>{0.0});
    }
    if (!head.labels.empty())
        head.labels.insert(head.labels.begin() + signed_of(fresh.place), fresh.label);
    if (!head.names.empty())
        head.names.insert(head.names.begin() + signed_of(fresh.place), fresh.name);
    ++head.classes;
}

// One step of gradient descent on the log loss of each sample, as far as is stable.
void learn_softmax(edgetl_head& head, const Lesson& lesson) {
    const std::size_t dim = head.features;
    std::vector<double> scratch(head.classes);
    for (std::size_t i = 0; i < lesson.count; ++i) {
        const float* row = lesson.features + i * dim;
        double size = 1, loss = 0;  // half of 1 + |x|^2 bounds the curvature
        for (std::size_t j = 0; j < dim; ++j)
            size += static_cast<double>(row[j]) * static_cast<double>(row[j]);
        const SgdStep step{1 / (1 + 1 / lesson.weight(i)) * 2 / size, 0, 0};
        const Status status =
            softmax_step(row, &lesson.codes[i], nullptr, 1, signed_of(dim), signed_of(head.classes),
                         step, head.wide.data(), head.intercept.data(), nullptr, nullptr,
                         scratch.data(), &loss, best_isa());
        if (status != Status::kOk)
            throw Failure(EDGETL_NOT_FINITE, "a score of what is to be learned is beyond range");
    }
}

// The means move by those of the samples, so that a batch gives what Python's gives.
void learn_prototypes(edgetl_head& head, const Lesson& lesson) {
    const std::size_t dim = head.features;
    std::vector<double> added(head.classes, 0.0), middles(head.classes * dim, 0.0);
    for (std::size_t i = 0; i < lesson.count; ++i)
        added[static_cast<std::size_t>(lesson.codes[i])] += lesson.weight(i);
    for (std::size_t i = 0; i < lesson.count; ++i) {
        const auto code = static_cast<std::size_t>(lesson.codes[i]);
        const double share = lesson.weight(i) / added[code];
        for (std::size_t j = 0; j < dim; ++j)
            middles[code * dim + j] += share * static_cast<double>(lesson.features[i * dim + j]);
    }
    for (std::size_t c = 0; c < head.classes; ++c) {
        if (added[c] == 0) continue;
        head.totals[c] += added[c];
        if (!std::isfinite(head.totals[c])) refuse("the weights add up beyond range");
        for (std::size_t j = 0; j < dim; ++j)
            head.means[c * dim + j] +=
                (middles[c * dim + j] - head.means[c * dim + j]) * (added[c] / head.totals[c]);
    }
    finish(head);
}

// A row of norm 1 as float32; of zeros, zeros.
void unit_row(const float* row, std::size_t dim, float* out) {
    double squares = 0;  // of float32 they neither overflow nor vanish
    for (std::size_t j = 0; j < dim; ++j)
        squares += static_cast<double>(row[j]) * static_cast<double>(row[j]);
    const double length = squares > 0 ? std::sqrt(squares) : 1.0;
    for (std::size_t j = 0; j < dim; ++j)
        out[j] = static_cast<float>(static_cast<double>(row[j]) / length);
}

// Twice as much room at a time, and no failure once there is.
template <typename Values>
void make_room(Values& values, std::size_t more) {
    if (values.capacity() - values.size() < more)
        values.reserve(std::max(values.size() + more, 2 * values.capacity()));
}

void append_neighbours(edgetl_head& head, const Lesson& lesson) {
    const std::size_t dim = head.features, before = head.codes.size();
    head.neighbours.resize((before + lesson.count) * dim);
    for (std::size_t i = 0; i < lesson.count; ++i) {
        unit_row(lesson.features + i * dim, dim, head.neighbours.data() + (before + i) * dim);
        head.codes.push_back(lesson.codes[i]);
        head.weights.push_back(lesson.weight(i));
    }
}

// Whether a sample is so small that nothing it is multiplied with comes near infinity.
bool harmless(const edgetl_head& head, const Lesson& lesson) {
    double squares = 0;
    for (std::size_t j = 0; j < head.features; ++j)
        squares +=
            static_cast<double>(lesson.features[j]) * static_cast<double>(lesson.features[j]);
    return squares < 1e60 && lesson.weight(0) < 1e60 && head.strength > 1e-60;
}

void move_codes(std::vector<std::int64_t>& codes, std::size_t place) {
    for (std::int64_t& code : codes) code += code >= signed_of(place) ? 1 : 0;
}

}  // namespace

void learn(edgetl_learner& learner, const Lesson& lesson) {
    edgetl_head& head = learner.head;
    const bool knn = head.kind == EDGETL_KNN, softmax = head.kind == EDGETL_SOFTMAX;
    // Neighbours are as large as all that was ever learned: they are not copied.
    std::vector<float> rows = std::move(head.neighbours);
    head.neighbours.clear();
    // Nor is the matrix of ridge where one sample is learned, which changes nothing if it fails.
    const bool whole = head.kind == EDGETL_RIDGE && lesson.count == 1 && harmless(head, lesson);
    std::vector<double> inverse;
    if (whole) inverse = std::move(learner.ridge.inverse);
    Next next;
    std::vector<std::size_t> counts;
    try {
        next = {head, learner.ridge, learner.lda};
        if (whole) next.ridge.inverse = std::move(inverse);
        counts.resize(head.classes + lesson.fresh.size());
        const std::vector<double> row =
            softmax ? mean_row(head.wide, head.features) : std::vector<double>();
        const double intercept = softmax ? mean_row(head.intercept, 1)[0] : 0;
        for (const Lesson::Class& fresh : lesson.fresh) {
            insert_class(next, fresh, row, intercept);
            if (knn) move_codes(next.head.codes, fresh.place);
        }
        if (softmax) {
            learn_softmax(next.head, lesson);
            take_linear(next.head, std::vector<double>(next.head.wide),
                        std::vector<double>(next.head.intercept));
            learner.file.memory.reserve(lesson.count);
        } else if (head.kind == EDGETL_PROTOTYPE) {
            learn_prototypes(next.head, lesson);
        } else if (knn) {
            make_room(rows, lesson.count * head.features);
            make_room(next.head.codes, lesson.count);
            make_room(next.head.weights, lesson.count);
        } else {
            std::vector<double> coef, bias;
            for (std::size_t i = 0; i < lesson.count; ++i) {
                const float* x = lesson.features + i * head.features;
                const auto code = static_cast<std::size_t>(lesson.codes[i]);
                if (head.kind == EDGETL_RIDGE)
                    next.ridge.add(x, code, lesson.weight(i));
                else
                    next.lda.add(x, code, lesson.weight(i));
            }
            if (head.kind == EDGETL_LDA) next.lda.discriminants(head.strength, &coef, &bias);
            take_linear(next.head, head.kind == EDGETL_LDA ? coef : next.ridge.coef,
                        head.kind == EDGETL_LDA ? bias : next.ridge.intercept);
        }
    } catch (...) {
        head.neighbours = std::move(rows);
        if (whole)
            learner.ridge.inverse = std::move(inverse.empty() ? next.ridge.inverse : inverse);
        throw;
    }
    // From here on nothing fails: there is room for all of it.
    const std::size_t known = head.classes;
    head = std::move(next.head);
    head.neighbours = std::move(rows);
    learner.ridge = std::move(next.ridge);
    learner.lda = std::move(next.lda);
    for (const Lesson::Class& fresh : lesson.fresh) {
        move_codes(learner.file.memory.codes, fresh.place);
        move_codes(learner.file.guard.codes, fresh.place);
        learner.moved = learner.moved || fresh.place < known;
    }
    if (knn) append_neighbours(head, lesson);
    if (softmax) remember(learner, lesson, std::move(counts));
    learner.samples += signed_of(lesson.count);
}

void forget(edgetl_learner& learner, std::size_t code) {
    if (learner.head.classes <= 2)
        refuse(
            "one of the last two classes can't be forgotten: a head without a choice can't "
            "answer");
    Next next{learner.head, learner.ridge, learner.lda};
    edgetl_head& head = next.head;
    const std::size_t dim = head.features;
    if (head.kind == EDGETL_KNN) {
        Samples samples{dim, std::move(head.neighbours), std::move(head.codes),
                        std::move(head.weights)};
        samples.forget(signed_of(code));
        head.neighbours = std::move(samples.features);
        head.codes = std::move(samples.codes);
        head.weights = std::move(samples.weights);
    } else if (head.kind == EDGETL_PROTOTYPE) {
        erase_row(head.means, code, dim);
        erase_row(head.totals, code, 1);
    } else {
        erase_row(head.wide, code, dim);
        erase_row(head.intercept, code, 1);
    }
    if (head.kind == EDGETL_RIDGE) next.ridge.erase_class(code, dim);
    if (head.kind == EDGETL_LDA) {
        next.lda.erase_class(code, dim);
        std::vector<double> coef, intercept;
        next.lda.discriminants(head.strength, &coef, &intercept);
        take_linear(head, coef, intercept);
    }
    --head.classes;
    bool counted = true;  // labels that are the classes' places stay so
    for (std::size_t c = 0; c < head.labels.size(); ++c)
        counted = counted && head.labels[c] == signed_of(c);
    if (!head.labels.empty())
        head.labels.erase(head.labels.begin() +
                          signed_of(counted && !head.names.empty() ? head.classes : code));
    if (!head.names.empty()) head.names.erase(head.names.begin() + signed_of(code));
    finish(head);
    learner.head = std::move(head);
    learner.ridge = std::move(next.ridge);
    learner.lda = std::move(next.lda);
    learner.file.memory.forget(signed_of(code));
    learner.file.guard.forget(signed_of(code));
    learner.moved = true;
}

}  // namespace edgetl::capi
