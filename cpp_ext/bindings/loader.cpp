// Python face of edgetl/loader.h, edgetl/photo.h and edgetl/jpeg.h: checks, keeps what the loop
// reads alive, releases the GIL, calls.
#include "edgetl/loader.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::device::cpu>;
using PixelsOut = nb::ndarray<std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Clock = edgetl::Loader::Clock;

// How long a call waits before it looks whether a signal has come in.
constexpr std::chrono::milliseconds kSlice{100};

edgetl::Recipe make_recipe(const edgetl::Definition& definition, bool scaled, std::string_view isa,
                           std::shared_ptr<edgetl::JpegLibrary> jpeg) {
    return {definition, scaled, arrays::named_isa(isa), std::move(jpeg)};
}

edgetl::Bytes view(const nb::bytes& file) {
    return {static_cast<const std::uint8_t*>(file.data()), file.size()};
}

edgetl::Image view(const Pixels& pixels) {
    const auto height = static_cast<std::int64_t>(pixels.shape(0));
    const auto width = static_cast<std::int64_t>(pixels.shape(1));
    if (pixels.shape(2) != 3 || height < 1 || width < 1 || height > edgetl::kMaxSide ||
        width > edgetl::kMaxSide || pixels.stride(2) != 1 || (width > 1 && pixels.stride(1) != 3))
        throw std::invalid_argument(
            "pixels must have shape (h, w, 3) with sides of 1 to " +
            std::to_string(edgetl::kMaxSide) + ", packed but for the rows, got " +
            std::to_string(pixels.shape(0)) + " x " + std::to_string(pixels.shape(1)) + " x " +
            std::to_string(pixels.shape(2)));
    return edgetl::whole_image(pixels.data(), height, width, height > 1 ? pixels.stride(0) : 0);
}

Clock::time_point after(std::optional<double> seconds) {
    // A year stands for ever: a time point of hundreds of years would overflow. NaN is no time.
    const double wait = std::min(std::max(0.0, seconds.value_or(3e7)), 3e7);
    return Clock::now() +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wait));
}

// Calls `step` with the GIL released until it is done or the time is over, looking for signals.
template <typename Step>
void in_slices(Clock::time_point until, const Step& step) {
    for (;;) {
        bool done;
        {
            nb::gil_scoped_release release;
            done = step(std::min(until, Clock::now() + kSlice));
        }
        if (done || Clock::now() >= until) return;
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }
}

std::int64_t process() {
#if defined(__unix__) || defined(__APPLE__)
    return getpid();
#else
    return 0;  // no forks
#endif
}

// The loop with the Python objects whose memory it reads. Those are touched with the GIL only.
class Loader {
  public:
    Loader(const edgetl::Definition& definition, bool scaled, std::string_view isa,
           std::shared_ptr<edgetl::JpegLibrary> jpeg, std::int64_t batch, std::int64_t buffers,
           std::int64_t taken, std::int64_t queue, int threads)
        : loop_(std::make_unique<edgetl::Loader>(
              make_recipe(definition, scaled, isa, std::move(jpeg)),
              edgetl::LoaderOptions{batch, buffers, taken, queue, threads})) {}

    ~Loader() {
        // A fork takes along the loop, but not its threads, nor callers that wait in it or hold its
        // lock: whoever waits for those waits for ever.
        if (process_ != process()) {
            static_cast<void>(loop_.release());
            return;
        }
        nb::gil_scoped_release release;
        loop_.reset();
    }

    bool submit(std::int64_t id, nb::bytes file, std::optional<double> seconds) {
        let_go();
        const edgetl::Bytes bytes = view(file);
        keep(id, std::move(file));
        const Clock::time_point until = after(seconds);
        bool queued = false;
        try {
            in_slices(until, [&](Clock::time_point slice) {
                return (queued = loop_->submit(id, bytes, slice)) || loop_->stopped();
            });
        } catch (...) {
            files_.erase(id);
            throw;
        }
        if (!queued) files_.erase(id);
        return queued;
    }

    void add(std::int64_t id, nb::bytes file) {
        let_go();
        const edgetl::Bytes bytes = view(file);
        keep(id, std::move(file));
        loop_->add(id, bytes);
    }

    void add_pixels(std::int64_t id, Pixels pixels, bool declined) {
        let_go();
        const edgetl::Image image = view(pixels);
        if (!pixels_.emplace(id, std::move(pixels)).second)
            throw std::invalid_argument("there is a photo of this number already");
        declined ? loop_->answer(id, image) : loop_->add_pixels(id, image);
    }

    nb::tuple take(bool help, bool feeds, std::optional<double> seconds) {
        let_go();
        edgetl::Turn turn{edgetl::Event::kWait, 0, {}};
        in_slices(after(seconds), [&](Clock::time_point slice) {
            turn = loop_->take(help, feeds, slice);
            return turn.event != edgetl::Event::kWait;
        });
        let_go();
        const int event = static_cast<int>(turn.event);
        if (turn.event == edgetl::Event::kBatch)
            return nb::make_tuple(event, turn.id, loop_->ids(turn.id), std::string());
        if (turn.event == edgetl::Event::kDeclined) {
            auto found = files_.find(turn.id);
            nb::object file = std::move(found->second);
            files_.erase(found);
            return nb::make_tuple(event, turn.id, file, turn.reason);
        }
        return nb::make_tuple(event, turn.id, nb::none(), std::string());
    }

    void release(std::int64_t buffer) { loop_->release(buffer); }
    void drop() { loop_->drop(); }
    bool hungry() { return loop_->hungry(); }
    void fed() { loop_->fed(); }
    void close() { loop_->close(); }

    void stop() {
        loop_->stop();
        let_go();
    }

    nb::tuple spent() {
        const edgetl::Spent spent = loop_->spent();
        return nb::make_tuple(1e-9 * spent.decode_ns, 1e-9 * spent.preprocess_ns);
    }

    std::int64_t queued() { return loop_->queued(); }
    std::size_t kept() {
        let_go();
        return files_.size() + pixels_.size();
    }

    // (batch, bytes of one output); keeps the loader alive.
    static nb::ndarray<nb::numpy, std::uint8_t> memory(nb::handle_t<Loader> self,
                                                       std::int64_t buffer) {
        Loader& loader = nb::cast<Loader&>(self);
        const auto slots = static_cast<std::size_t>(loader.loop_->options().batch);
        const auto bytes =
            static_cast<std::size_t>(edgetl::output_bytes(loader.loop_->recipe().definition));
        return nb::ndarray<nb::numpy, std::uint8_t>(loader.loop_->memory(buffer), {slots, bytes},
                                                    self);
    }

  private:
    void keep(std::int64_t id, nb::bytes file) {
        if (!files_.emplace(id, std::move(file)).second)
            throw std::invalid_argument("there is a photo of this number already");
    }

    // Lets go of what is no longer read.
    void let_go() {
        for (const std::int64_t id : loop_->settled())
            if (files_.erase(id) == 0) pixels_.erase(id);
    }

    std::unordered_map<std::int64_t, nb::object> files_;
    std::unordered_map<std::int64_t, Pixels> pixels_;
    std::unique_ptr<edgetl::Loader> loop_;
    const std::int64_t process_ = process();
};

std::vector<std::string> prepare(const edgetl::Definition& definition, bool scaled,
                                 std::string_view isa, std::shared_ptr<edgetl::JpegLibrary> jpeg,
                                 const nb::list& files, const Output& out, int threads) {
    std::vector<nb::bytes> kept;  // the list may change while the GIL is released
    std::vector<edgetl::Bytes> views;
    for (const nb::handle file : files) {
        if (!nb::isinstance<nb::bytes>(file)) throw nb::type_error("files must be bytes");
        kept.push_back(nb::borrow<nb::bytes>(file));
        views.push_back(view(kept.back()));
    }
    const edgetl::Recipe recipe = make_recipe(definition, scaled, isa, std::move(jpeg));
    const auto bytes = static_cast<std::size_t>(edgetl::output_bytes(definition));
    if (out.shape(0) != views.size() || out.nbytes() != views.size() * bytes)
        throw std::invalid_argument("out has another shape or type than the photos need");
    if (reinterpret_cast<std::uintptr_t>(out.data()) % (out.dtype().bits / 8) != 0)
        throw std::invalid_argument("out is not aligned");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    nb::gil_scoped_release release;
    return edgetl::prepare_photos(recipe, views, out.data(), threads);
}

// Decodes the part of an image that begins at `top`, `left` and fills `out`; None, or why not.
std::optional<std::string> decode_jpeg(const edgetl::JpegLibrary& library, const nb::bytes& file,
                                       int divisor, std::int64_t top, std::int64_t left,
                                       const PixelsOut& out) {
    if (out.shape(2) != 3) throw std::invalid_argument("out must have shape (h, w, 3)");
    if (divisor != 1 && divisor != 2 && divisor != 4 && divisor != 8)
        throw std::invalid_argument("divisor must be 1, 2, 4 or 8");
    const edgetl::Bytes bytes = view(file);
    const edgetl::Box wanted{top, left, static_cast<std::int64_t>(out.shape(0)),
                             static_cast<std::int64_t>(out.shape(1))};
    nb::gil_scoped_release release;
    edgetl::JpegHeader header{};
    if (!edgetl::scan_jpeg(bytes.data, bytes.size, &header)) return "not a plain JPEG file";
    edgetl::Scratch scratch;
    edgetl::Pixels pixels{};
    std::string message;
    const char* reason = edgetl::decode_jpeg(library, bytes.data, bytes.size, header, divisor,
                                             wanted, &scratch, &pixels, &message);
    if (reason != nullptr) return reason;
    const std::uint8_t* from = pixels.data + (wanted.top - pixels.part.top) * pixels.stride +
                               3 * (wanted.left - pixels.part.left);
    for (std::int64_t row = 0; row < wanted.height; ++row)
        std::copy_n(from + row * pixels.stride, 3 * wanted.width,
                    out.data() + row * 3 * wanted.width);
    return std::nullopt;
}

nb::object scan_jpeg(const nb::bytes& file) {
    edgetl::JpegHeader header{};
    const edgetl::Bytes bytes = view(file);
    if (!edgetl::scan_jpeg(bytes.data, bytes.size, &header)) return nb::none();
    return nb::make_tuple(header.height, header.width, header.orientation);
}

}  // namespace

void register_loader(nb::module_& module) {
    nb::class_<edgetl::JpegLibrary>(module, "JpegLibrary", "A libjpeg-turbo opened from its file.")
        .def(
            "__init__",
            [](edgetl::JpegLibrary* self, const nb::bytes& path) {
                new (self) edgetl::JpegLibrary(std::string(path.c_str(), path.size()));
            },
            "path"_a);
    module.def("decode_jpeg", &decode_jpeg, "library"_a, "file"_a, "divisor"_a, "top"_a, "left"_a,
               "out"_a.noconvert(), "Decode a part of a JPEG file; None, or why not.");
    module.def("scan_jpeg", &scan_jpeg, "file"_a,
               "Height, width and orientation of a plain JPEG file, or None.");
    module.def("prepare", &prepare, "definition"_a, "scaled"_a, "isa"_a, "jpeg"_a.none(), "files"_a,
               "out"_a.noconvert(), "threads"_a,
               "Decode and preprocess files; why each was declined, or an empty text.");
    nb::class_<Loader>(module, "Loader", "The extraction loop; use edgetl.native.loader.")
        .def(nb::init<const edgetl::Definition&, bool, std::string_view,
                      std::shared_ptr<edgetl::JpegLibrary>, std::int64_t, std::int64_t,
                      std::int64_t, std::int64_t, int>(),
             "definition"_a, "scaled"_a, "isa"_a, "jpeg"_a.none(), "batch"_a, "buffers"_a,
             "taken"_a, "queue"_a, "threads"_a)
        .def("submit", &Loader::submit, "id"_a, "file"_a, "seconds"_a.none())
        .def("add", &Loader::add, "id"_a, "file"_a)
        .def("add_pixels", &Loader::add_pixels, "id"_a, "pixels"_a.noconvert(), "declined"_a)
        .def("take", &Loader::take, "help"_a, "feeds"_a, "seconds"_a.none())
        .def("release", &Loader::release, "buffer"_a)
        .def("drop", &Loader::drop)
        .def("hungry", &Loader::hungry)
        .def("fed", &Loader::fed)
        .def("close", &Loader::close)
        .def("stop", &Loader::stop)
        .def("spent", &Loader::spent)
        .def("queued", &Loader::queued)
        .def("kept", &Loader::kept)
        .def("memory", &Loader::memory, "buffer"_a);
}
