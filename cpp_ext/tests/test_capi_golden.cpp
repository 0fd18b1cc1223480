// The C library on bundles that Python wrote (cpp_ext/tests/capi, by tests/native/
// test_capi_golden.py): it must give what Python gave, whatever the processor, and take no update
// that was changed.
#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "edgetl.h"

#define SAME(left, right) CHECK_EQUAL(left, right, edgetl_last_error())

namespace {

namespace fs = std::filesystem;
const fs::path kGolden = EDGETL_GOLDEN;
const std::vector<std::string> kKinds = {"knn", "lda", "prototype", "ridge", "softmax"};

std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    CHECK(file.good());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<float> floats(const char* name) {
    const std::string bytes = read(kGolden / name);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(values.data()));
    return values;
}

// A copy of a golden bundle, removed at the end.
struct Copy {
    fs::path folder;

    explicit Copy(const std::string& kind) {
        std::string name = (fs::temp_directory_path() / "edgetl-golden-XXXXXX").string();
        CHECK(mkdtemp(&name[0]) != nullptr);
        folder = name;
        fs::copy(kGolden / kind, folder, fs::copy_options::recursive);
    }
    ~Copy() { fs::remove_all(folder); }
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;
};

edgetl_bundle* open_bundle(const fs::path& folder) {
    edgetl_bundle* bundle = nullptr;
    SAME(edgetl_bundle_open(folder.c_str(), nullptr, &bundle), EDGETL_OK);
    return bundle;
}

std::vector<double> answers(const edgetl_head* head) {
    const std::vector<float> queries = floats("queries.f32");
    const std::size_t dim = edgetl_head_features(head), n = queries.size() / dim;
    std::vector<double> out(n * edgetl_head_classes(head));
    SAME(edgetl_head_probabilities(head, queries.data(), n, dim, out.data(), out.size()),
         EDGETL_OK);
    return out;
}

void compare(const std::vector<double>& found, const std::string& name, double tolerance) {
    std::ifstream file(kGolden / name);
    const std::vector<double> expected{std::istream_iterator<double>(file), {}};
    CHECK_EQUAL(found.size(), expected.size(), name);
    double worst = 0;
    for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i)
        worst = std::max(worst, std::abs(found[i] - expected[i]));
    CHECK_EQUAL(worst <= tolerance, true,
                name + ": apart by " + std::to_string(worst * 1e9) + "e-9");
}

edgetl_status apply(const edgetl_bundle* bundle, const std::string& update,
                    const std::string& key) {
    // Memory of just that size: sanitizers see every read beyond.
    const std::vector<char> bytes(update.begin(), update.end());
    const char none = 0;
    return edgetl_delta_apply(bundle, bytes.empty() ? &none : bytes.data(), bytes.size(),
                              reinterpret_cast<const std::uint8_t*>(key.data()), nullptr);
}

}  // namespace

TEST(bundles_answer_learn_and_take_updates_as_in_python) {
    for (const std::string& kind : kKinds) {
        const Copy copy(kind);
        edgetl_bundle* bundle = open_bundle(copy.folder);
        SAME(edgetl_bundle_check_graph(bundle), EDGETL_OK);
        SAME(edgetl_head_kind(edgetl_bundle_head(bundle)) != EDGETL_LINEAR, true);
        SAME(std::string(edgetl_head_name(edgetl_bundle_head(bundle), 1)),
             std::string("L\xc3\xb6wenzahn"));
        compare(answers(edgetl_bundle_head(bundle)), kind + "-shipped.txt", 1e-12);

        const std::vector<float> lesson = floats("lesson.f32");
        const char* names[] = {"rust", "rust", "daisy", "mildew"};
        edgetl_learner* learner = nullptr;
        edgetl_head* learned = nullptr;
        SAME(edgetl_learner_open(bundle, &learner), EDGETL_OK);
        SAME(edgetl_learner_learn(learner, lesson.data(), 4, lesson.size() / 4, names, nullptr),
             EDGETL_OK);
        SAME(edgetl_learner_head(learner, &learned), EDGETL_OK);
        compare(answers(learned), kind + "-learned.txt", 1e-7);
        edgetl_head_free(learned);

        edgetl_bundle* after = nullptr;
        SAME(edgetl_bundle_commit(bundle, learner, &after), EDGETL_OK);
        SAME(edgetl_bundle_generation(after), std::int64_t{1});
        compare(answers(edgetl_bundle_head(after)), kind + "-learned.txt", 1e-5);
        SAME(edgetl_learner_rehearse(learner, 5), EDGETL_OK);
        SAME(edgetl_learner_forget(learner, "daisy"), EDGETL_OK);
        SAME(edgetl_bundle_commit(after, learner, nullptr), EDGETL_OK);
        SAME(edgetl_bundle_commit(bundle, learner, nullptr), EDGETL_INVALID);
        edgetl_learner_free(learner);
        edgetl_bundle_free(after);

        // The update is for the head that was shipped, which is still there.
        edgetl_bundle* forgetful = open_bundle(copy.folder);
        SAME(edgetl_head_classes(edgetl_bundle_head(forgetful)), std::size_t{4});
        SAME(apply(forgetful, read(kGolden / (kind + ".etlh")), read(kGolden / "key.raw")),
             EDGETL_OK);
        edgetl_bundle_free(forgetful);
        edgetl_bundle* updated = open_bundle(copy.folder);
        SAME(edgetl_bundle_generation(updated), std::int64_t{7});  // the update's number
        compare(answers(edgetl_bundle_head(updated)), kind + "-updated.txt", 1e-9);
        SAME(apply(updated, read(kGolden / (kind + ".etlh")), read(kGolden / "key.raw")),
             EDGETL_STALE);
        edgetl_bundle_free(updated);
        edgetl_bundle_free(bundle);
    }
}

TEST(what_was_learned_is_gone_on_from_after_a_commit) {
    for (const std::string& kind : kKinds) {
        const Copy copy(kind);
        const std::vector<float> lesson = floats("lesson.f32");
        const std::size_t dim = lesson.size() / 4;
        const char* names[] = {"rust", "mildew", "daisy", "mildew"};
        edgetl_bundle* bundle = open_bundle(copy.folder);
        edgetl_learner *whole = nullptr, *again = nullptr;
        SAME(edgetl_learner_open(bundle, &whole), EDGETL_OK);
        SAME(edgetl_learner_learn(whole, lesson.data(), 2, dim, names, nullptr), EDGETL_OK);
        SAME(edgetl_bundle_commit(bundle, whole, nullptr), EDGETL_OK);
        edgetl_bundle_free(bundle);
        bundle = open_bundle(copy.folder);
        SAME(edgetl_learner_open(bundle, &again), EDGETL_OK);
        edgetl_head* heads[2] = {};
        for (edgetl_learner* learner : {whole, again}) {
            const float* rest = lesson.data() + 2 * dim;
            SAME(edgetl_learner_learn(learner, rest, 2, dim, names + 2, nullptr), EDGETL_OK);
            SAME(edgetl_learner_head(learner, &heads[learner == again]), EDGETL_OK);
            edgetl_learner_free(learner);
        }
        const auto first = answers(heads[0]), second = answers(heads[1]);
        for (std::size_t i = 0; i < first.size(); ++i) CHECK(std::abs(first[i] - second[i]) < 1e-5);
        for (edgetl_head* head : heads) edgetl_head_free(head);
        edgetl_bundle_free(bundle);
    }
}

TEST(updates_with_any_byte_changed_are_refused) {
    const Copy copy("ridge");
    const std::string update = read(kGolden / "ridge.etlh"), key = read(kGolden / "key.raw");
    const std::string manifest = read(copy.folder / "manifest.json");
    edgetl_bundle* bundle = open_bundle(copy.folder);
    const std::size_t step = update.size() / 150 + 1;
    for (std::size_t i = 0; i < update.size(); i += step) {
        std::string changed = update;
        changed[i] = static_cast<char>(changed[i] ^ 1 << i % 8);
        SAME(apply(bundle, changed, key), EDGETL_SIGNATURE);
        SAME(apply(bundle, update.substr(0, i), key), EDGETL_SIGNATURE);
    }
    std::string other = key;
    other[0] = static_cast<char>(other[0] ^ 1);
    SAME(apply(bundle, update, other), EDGETL_SIGNATURE);
    SAME(edgetl_delta_apply(bundle, update.data(), update.size(), nullptr, nullptr),
         EDGETL_INVALID);
    SAME(read(copy.folder / "manifest.json"), manifest);
    edgetl_bundle_free(bundle);

    const Copy lda("lda");
    bundle = open_bundle(lda.folder);
    SAME(apply(bundle, update, key), EDGETL_BASE);
    edgetl_bundle_free(bundle);
}

TEST(manifests_with_any_byte_changed_are_refused) {
    const Copy copy("knn");
    const std::string good = read(copy.folder / "manifest.json");
    for (std::size_t i = 0; i < good.size(); i += good.size() / 300 + 1) {
        std::string changed = good;
        changed[i] = static_cast<char>(changed[i] ^ 1 << i % 8);
        std::ofstream(copy.folder / "manifest.json", std::ios::binary) << changed;
        edgetl_bundle* bundle = nullptr;
        const edgetl_status status = edgetl_bundle_open(copy.folder.c_str(), nullptr, &bundle);
        SAME(status == EDGETL_CORRUPT || status == EDGETL_UNSUPPORTED, true);
        CHECK(bundle == nullptr);
    }
}

TEST(heads_answer_while_others_are_learned) {
    const Copy copy("softmax");
    edgetl_bundle* bundle = open_bundle(copy.folder);
    edgetl_learner* learner = nullptr;
    SAME(edgetl_learner_open(bundle, &learner), EDGETL_OK);
    const std::vector<float> lesson = floats("lesson.f32");
    const char* names[] = {"rust", "rust", "daisy", "mildew"};
    edgetl_head* current = nullptr;
    SAME(edgetl_learner_head(learner, &current), EDGETL_OK);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (const edgetl_head* head :
         {static_cast<const edgetl_head*>(current), edgetl_bundle_head(bundle)})
        threads.emplace_back([head, &stop] {
            const auto expected = answers(head);
            do
                if (answers(head) != expected) check::fail(__FILE__, __LINE__, "a head changed");
            while (!stop);
        });
    for (int i = 0; i < 20; ++i) {
        SAME(edgetl_learner_learn(learner, lesson.data(), 4, lesson.size() / 4, names, nullptr),
             EDGETL_OK);
        edgetl_head* next = nullptr;
        SAME(edgetl_learner_head(learner, &next), EDGETL_OK);
        edgetl_head_free(next);
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    edgetl_head_free(current);
    edgetl_learner_free(learner);
    edgetl_bundle_free(bundle);
}
