// The extraction loop and the JPEG decoder without Python: made for the sanitizers. Decoding is
// tested where EDGETL_TEST_LIBJPEG names a libjpeg-turbo of version 3; tests/native compares its
// pixels.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "edgetl/jpeg.h"
#include "edgetl/loader.h"
#include "edgetl/photo.h"
#include "jpeg_library.h"

namespace {

#include "jpegs.inc"

using edgetl::Bytes;
using edgetl::Event;
using edgetl::Loader;

const Bytes kFiles[] = {{kBaseline, sizeof kBaseline},
                        {kProgressive, sizeof kProgressive},
                        {kGrey, sizeof kGrey},
                        {kTurned, sizeof kTurned}};

edgetl::Recipe recipe() {
    edgetl::Definition definition{};
    definition.size = 16;
    definition.resize = 18;
    definition.filter = edgetl::Filter::kBicubic;
    for (int c = 0; c < 3; ++c) definition.std[c] = 1;
    return {definition, false, edgetl::best_isa(), check::jpeg_library()};
}

// A photo that outlives every loader.
const std::vector<std::uint8_t> pixels(3 * 20 * 30, 9);

Loader::Clock::time_point soon() {
    return Loader::Clock::now() + std::chrono::seconds(60);
}

// Answers every turn in some threads until the end; counts what came.
struct Crowd {
    Loader& loader;
    std::int64_t photos;
    std::atomic<std::int64_t> next{0}, dropped{0};
    std::mutex mutex{};
    std::multiset<std::int64_t> seen{};
    bool stuck = false;

    void feed() {
        while (loader.hungry()) {
            const std::int64_t id = next++;
            if (id >= photos) {
                loader.close();
                break;
            }
            if (id % 3 == 0)
                loader.add_pixels(id, edgetl::whole_image(pixels.data(), 20, 30, 90));
            else if (id % 7 == 0)
                loader.add(id, {pixels.data(), pixels.size()});  // no JPEG
            else
                loader.add(id, kFiles[id % 4]);
        }
        loader.fed();
    }

    void work() {
        for (;;) {
            const edgetl::Turn turn = loader.take(true, true, soon());
            if (turn.event == Event::kEnd) return;
            if (turn.event == Event::kWait) {
                stuck = true;
                loader.stop();
            } else if (turn.event == Event::kFeed) {
                feed();
            } else if (turn.event == Event::kDeclined && turn.id % 2 == 0) {
                ++dropped;
                loader.drop();
            } else if (turn.event == Event::kDeclined) {
                loader.answer(turn.id, edgetl::whole_image(pixels.data(), 20, 30, 90));
            } else {
                {
                    const std::lock_guard<std::mutex> lock(mutex);
                    for (const std::int64_t id : loader.ids(turn.id)) seen.insert(id);
                }
                // Every byte is there to be read.
                const std::int64_t size =
                    loader.options().batch * edgetl::output_bytes(loader.recipe().definition);
                volatile std::uint8_t sum = 0;  // so that it is not left out
                for (std::int64_t i = 0; i < size; ++i)
                    sum = static_cast<std::uint8_t>(sum + loader.memory(turn.id)[i]);
                loader.release(turn.id);
            }
        }
    }

    void run(int callers) {
        std::vector<std::thread> threads;
        for (int i = 0; i < callers; ++i) threads.emplace_back([this] { work(); });
        for (std::thread& thread : threads) thread.join();
    }
};

}  // namespace

TEST(every_photo_comes_once) {
    for (int threads : {0, 1, 3})
        for (std::int64_t batch : {1, 4, 7}) {
            Loader loader(recipe(), {batch, 2, 1, 3, threads});
            Crowd crowd{loader, 60};
            crowd.run(3);
            CHECK(!crowd.stuck);
            std::set<std::int64_t> once(crowd.seen.begin(), crowd.seen.end());
            CHECK_EQUAL(once.size(), crowd.seen.size(), std::to_string(threads));
            CHECK_EQUAL(static_cast<std::int64_t>(once.size()), 60 - crowd.dropped.load(),
                        std::to_string(batch));
            CHECK_EQUAL(loader.settled().size() + crowd.dropped.load() >= 40, true, "settled");
        }
}

TEST(stopping_ends_everything) {
    for (int turn = 0; turn < 20; ++turn) {
        Loader loader(recipe(), {2, 2, 1, 4, 2});
        Crowd crowd{loader, 1 << 30};
        std::thread stopper([&] {
            while (crowd.next < 30 + turn) std::this_thread::yield();
            loader.stop();
        });
        crowd.run(2);
        stopper.join();
        CHECK(!crowd.stuck);
        CHECK(loader.take(true, true, soon()).event == Event::kEnd);
        CHECK(!loader.submit(0, kFiles[0], Loader::Clock::now()));
    }
}

TEST(a_full_queue_lets_nobody_in) {
    Loader loader(recipe(), {1, 1, 1, 2, 0});
    CHECK(loader.submit(0, kFiles[0], Loader::Clock::now()));
    CHECK(loader.submit(1, kFiles[0], Loader::Clock::now()));
    CHECK(!loader.submit(2, kFiles[0], Loader::Clock::now()));
    CHECK_EQUAL(loader.queued(), 2, "");
    loader.stop();
    CHECK_EQUAL(loader.settled().size(), std::size_t{2}, "both are let go");
}

TEST(options_out_of_range_are_refused) {
    using Options = edgetl::LoaderOptions;
    for (const Options& options :
         {Options{0, 1, 1, 1, 0}, Options{1, 0, 1, 1, 0}, Options{1, 1, 2, 1, 0},
          Options{1, 1, 1, 0, 0}, Options{1, 1, 1, 1, -1}, Options{1LL << 40, 1, 1, 1, 0}})
        CHECK_THROWS(std::invalid_argument, Loader(recipe(), options));
    edgetl::Recipe wrong = recipe();
    wrong.definition.size = 40;
    CHECK_THROWS(std::invalid_argument, Loader(wrong, {1, 1, 1, 1, 0}));
    Loader loader(recipe(), {1, 1, 1, 1, 0});
    for (std::int64_t buffer : {-1, 0, 1})
        CHECK_THROWS(std::invalid_argument, loader.release(buffer));
}

TEST(headers_are_read) {
    for (const Bytes& file : kFiles) {
        edgetl::JpegHeader header{};
        CHECK(edgetl::scan_jpeg(file.data, file.size, &header));
        CHECK_EQUAL(header.height, 19, "");
        CHECK_EQUAL(header.width, 34, "");
        CHECK_EQUAL(header.orientation, file.data == kTurned ? 6 : 1, "");
        CHECK_EQUAL(header.progressive, file.data == kProgressive, "");
        CHECK(header.usual_sampling);
        // However short it is cut, nothing behind its end is read: the copy has just that length.
        for (std::size_t size = 0; size < file.size; ++size) {
            const std::vector<std::uint8_t> part(file.data, file.data + size);
            edgetl::scan_jpeg(part.data(), part.size(), &header);
        }
    }
}

TEST(files_are_declined_without_a_library) {
    edgetl::Recipe without = recipe();
    without.jpeg = nullptr;
    std::vector<float> out(3 * 16 * 16);
    const auto declined = edgetl::prepare_photos(without, {kFiles[0]}, out.data(), 1);
    CHECK_EQUAL(declined.at(0), std::string("no JPEG library"), "");
    CHECK_THROWS(std::runtime_error, edgetl::JpegLibrary("/nowhere/libjpeg.so"));
}

TEST(a_library_decodes_whole_files_and_declines_the_rest) {
    if (check::jpeg_library() == nullptr) return;
    for (const Bytes& file : kFiles)
        for (std::size_t cut = 0; cut < file.size; cut += 5) {
            const std::vector<std::uint8_t> part(file.data, file.data + file.size - cut);
            std::vector<float> out(3 * 16 * 16);
            const auto declined =
                edgetl::prepare_photos(recipe(), {{part.data(), part.size()}}, out.data(), 1);
            CHECK_EQUAL(declined.at(0).empty(), cut == 0, std::to_string(cut));
        }
}

TEST(parts_equal_the_whole) {
    if (check::jpeg_library() == nullptr) return;
    for (const Bytes& file : kFiles) {
        edgetl::JpegHeader header{};
        CHECK(edgetl::scan_jpeg(file.data, file.size, &header));
        edgetl::Scratch one, other;
        edgetl::Pixels whole{}, part{};
        std::string message;
        CHECK(edgetl::decode_jpeg(*check::jpeg_library(), file.data, file.size, header, 1,
                                  {0, 0, 19, 34}, &one, &whole, &message) == nullptr);
        for (std::int64_t top = 0; top < 19; top += 3)
            for (std::int64_t left = 0; left < 34; ++left) {
                const edgetl::Box wanted{top, left, 1 + (left + top) % (19 - top),
                                         1 + (7 * left + top) % (34 - left)};
                CHECK(edgetl::decode_jpeg(*check::jpeg_library(), file.data, file.size, header, 1,
                                          wanted, &other, &part, &message) == nullptr);
                for (std::int64_t y = top; y < top + wanted.height; ++y)
                    CHECK(std::memcmp(part.data + (y - part.part.top) * part.stride +
                                          3 * (left - part.part.left),
                                      whole.data + y * whole.stride + 3 * left,
                                      3 * wanted.width) == 0);
            }
    }
}
