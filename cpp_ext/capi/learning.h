// What a head learns on from: kept samples and statistics, as edgetl/bundle/learning.py stores
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arrays.h"

namespace edgetl::capi {

// Samples as features, (n, dim), with their classes.
struct Samples {
    std::size_t dim = 0;
    std::vector<float> features;
    std::vector<std::int64_t> codes;
    std::vector<double> weights;  // how many each stands for; empty: one

    std::size_t count() const { return codes.size(); }
    const float* row(std::size_t i) const { return features.data() + i * dim; }
    void erase(std::size_t i);
    // For a class that went away: its samples go, higher classes move down.
    void forget(std::int64_t code);
    // Room for so many more, so that adding them can't fail.
    void reserve(std::size_t more);
};

// A file of arrays that is held with its bytes.
class LearningFile {
  public:
    LearningFile() = default;
    // Throws Failure. `classes` is how many the head has.
    LearningFile(std::string bytes, std::size_t dim, std::size_t classes);

    bool empty() const { return bytes_.empty(); }
    Samples memory;
    Samples guard;

    // Numbers called `statistics.NAME`, of this shape; throws if they are there and are not.
    bool has_statistics() const;
    bool has_statistics(const std::string& name) const;
    std::vector<double> statistics(const std::string& name,
                                   const std::vector<std::uint64_t>& shape) const;
    // Any number of rows.
    std::vector<double> statistics_rows(const std::string& name, std::uint64_t dim) const;
    // Further arrays, which nobody here reads.
    std::vector<Array> others() const;

  private:
    std::string bytes_;
    std::vector<Array> arrays_;
};

struct NamedNumbers {
    std::string name;
    std::vector<std::uint64_t> shape;
    std::vector<double> values;
};

// The file of these. Samples beyond float16 are left out.
std::string learning_bytes(const Samples& memory, const Samples& guard,
                           const std::vector<NamedNumbers>& statistics,
                           const std::vector<Array>& others);

}  // namespace edgetl::capi
