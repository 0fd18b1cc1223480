// The extraction loop under several callers and threads: whatever the order of events, every photo
// comes out once, with the numbers it has alone.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "edgetl/loader.h"
#include "jpeg_library.h"
#include "photos.h"
#include "random.h"

namespace {

using edgetl::Event;
using edgetl::Loader;
using Output = std::vector<std::uint8_t>;

// Some of the fuzzer's JPEG files, which the core decodes, takes or declines; and no JPEG at all.
std::vector<Output> read_files() {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(EDGETL_JPEG_CORPUS))
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    std::vector<Output> files{{}, {0xff, 0xd8, 0xff, 0xe0}, Output(300, 7)};
    for (const auto& path : paths) {
        std::ifstream stream(path, std::ios::binary);
        files.push_back({std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()});
    }
    return files;
}

struct Task {
    edgetl::Recipe recipe;
    std::vector<Output> files;
    std::int64_t photos;
    check::Photo substitute;  // for what the core declines

    const Output& file(std::int64_t id) const {
        return files[static_cast<std::size_t>(id) % files.size()];
    }
    // A declined photo that no other decoder could read either.
    static bool hopeless(std::int64_t id) { return id % 7 == 3; }
};

Task make_task(std::int64_t photos) {
    check::Random random(21);
    edgetl::Definition definition{};
    definition.size = 12;
    definition.resize = 14;
    definition.filter = edgetl::Filter::kBicubic;
    definition.dtype = edgetl::Dtype::kFloat16;
    for (float& std : definition.std) std = 0.5f;
    return {{definition, false, edgetl::best_isa(), check::jpeg_library()},
            read_files(),
            photos,
            check::random_photo(random, 31, 23, false)};
}

// Every output by itself, without a loop; none for what nobody can read.
std::map<std::int64_t, Output> expected_outputs(const Task& task) {
    const auto bytes = static_cast<std::size_t>(edgetl::output_bytes(task.recipe.definition));
    std::map<std::int64_t, Output> expected;
    for (std::int64_t id = 0; id < task.photos; ++id) {
        Output out(bytes);
        const Output& file = task.file(id);
        const auto declined =
            edgetl::prepare_photos(task.recipe, {{file.data(), file.size()}}, out.data(), 1);
        if (!declined[0].empty() && Task::hopeless(id)) continue;
        if (!declined[0].empty())
            out = check::run(task.substitute.view(), task.recipe.definition, 1, task.recipe.isa);
        expected[id] = out;
    }
    return expected;
}

// What callers have in common.
struct Harvest {
    std::mutex mutex;
    std::map<std::int64_t, Output> outputs;
    std::int64_t dropped = 0;
    std::int64_t next = 0;  // to be fed
};

void collect(const Loader& loader, std::int64_t buffer, std::size_t bytes, Harvest* harvest) {
    const std::uint8_t* memory = loader.memory(buffer);
    const std::lock_guard<std::mutex> lock(harvest->mutex);
    for (const std::int64_t id : loader.ids(buffer)) {
        const bool first = harvest->outputs.emplace(id, Output(memory, memory + bytes)).second;
        CHECK_EQUAL(first, true, "photo " + std::to_string(id));
        memory += bytes;
    }
}

void feed(Loader* loader, const Task& task, Harvest* harvest) {
    const std::lock_guard<std::mutex> lock(harvest->mutex);
    while (harvest->next < task.photos && loader->hungry()) {
        const Output& file = task.file(harvest->next);
        loader->add(harvest->next++, {file.data(), file.size()});
    }
    if (harvest->next == task.photos) loader->close();
    loader->fed();
}

// One caller; `patience` is how many turns it takes before it stops everything.
void call(Loader* loader, const Task& task, bool help, std::int64_t patience, Harvest* harvest) {
    const auto bytes = static_cast<std::size_t>(edgetl::output_bytes(task.recipe.definition));
    for (;; --patience) {
        if (patience == 0) loader->stop();
        const edgetl::Turn turn =
            loader->take(help, true, Loader::Clock::now() + std::chrono::milliseconds(20));
        switch (turn.event) {
            case Event::kBatch:
                collect(*loader, turn.id, bytes, harvest);
                loader->release(turn.id);
                break;
            case Event::kDeclined:
                if (Task::hopeless(turn.id)) {
                    const std::lock_guard<std::mutex> lock(harvest->mutex);
                    ++harvest->dropped;
                    loader->drop();
                } else {
                    loader->answer(turn.id, task.substitute.view());
                }
                break;
            case Event::kFeed:
                feed(loader, task, harvest);
                break;
            case Event::kWait:
                break;
            case Event::kEnd:
                return;
        }
    }
}

void run_callers(Loader* loader, const Task& task, int callers, bool help, std::int64_t patience,
                 Harvest* harvest) {
    std::vector<std::thread> threads;
    for (int i = 0; i < callers; ++i)
        threads.emplace_back(
            [&, i] { call(loader, task, help || i == 0, i == 0 ? patience : -1, harvest); });
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST(every_photo_comes_out_once_with_its_own_numbers) {
    const Task task = make_task(150);
    const auto expected = expected_outputs(task);
    for (const int threads : {0, 1, 3})
        for (const int callers : {1, 3})
            for (const std::int64_t batch : {1, 8}) {
                Loader loader(task.recipe, {batch, 4, 3, 9, threads});
                Harvest harvest;
                run_callers(&loader, task, callers, threads == 0, -1, &harvest);
                const std::string context = std::to_string(threads) + " threads, " +
                                            std::to_string(callers) + " callers, batches of " +
                                            std::to_string(batch);
                CHECK_EQUAL((harvest.outputs == expected), true, context);
                CHECK_EQUAL(harvest.dropped + static_cast<std::int64_t>(expected.size()),
                            task.photos, context);
            }
}

TEST(stopping_early_lets_everybody_go) {
    const Task task = make_task(150);
    const auto expected = expected_outputs(task);
    for (std::int64_t patience = 0; patience < 40; patience += 3) {
        Loader loader(task.recipe, {4, 4, 3, 9, 2});
        Harvest harvest;
        run_callers(&loader, task, 2, false, patience, &harvest);
        for (const auto& [id, output] : harvest.outputs)
            CHECK_EQUAL((expected.at(id) == output), true, "photo " + std::to_string(id));
    }
}

TEST(a_loader_that_nobody_calls_ends) {
    const Task task = make_task(3);
    Loader loader(task.recipe, {4, 4, 3, 9, 2});
    for (std::int64_t id = 0; id < task.photos; ++id)
        CHECK(loader.submit(id, {task.file(id).data(), task.file(id).size()},
                            Loader::Clock::now() + std::chrono::seconds(1)));
}

TEST(sizes_are_refused_before_they_are_multiplied) {
    const Task task = make_task(1);
    for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 40}) {
        edgetl::Recipe recipe = task.recipe;
        recipe.definition.size = recipe.definition.resize = bad;
        CHECK_THROWS(std::invalid_argument, Loader(recipe, {4, 4, 3, 9, 0}));
        CHECK_THROWS(std::invalid_argument, edgetl::prepare_photos(recipe, {}, nullptr, 1));
    }
}
