"""JPEG bytes to a tensor: edgetl beside simplejpeg's decode alone, Pillow, OpenCV and torchvision.

Every contender runs on one thread, on the same photos, in turns within one run. Photos of 500 x 375
are made from the assets' photos (JPEG, quality 88, 4:2:0), photos of 12 megapixels by enlarging
them. The kernel alone makes a float32 tensor (CHW, 224 x 224) of decoded pixels by antialiased
bicubic resizing. Pillow and torchvision do the same. OpenCV has nothing like it: INTER_AREA
averages without a filter, INTER_CUBIC and INTER_LINEAR look at 16 and 4 pixels however much the
image shrinks, which is less work. Each is followed by crop, normalisation and layout, in numpy and
in OpenCV's own functions, and the faster one counts. OpenCV is a peer where it is installed
(opencv-python-headless).

The native loop runs on one thread and on two, in turns, where the machine has two cores. What
``decode="scaled"`` gains in time and changes in mobilenetv2_100's features is printed without a
bar; without torch, timm or the weights the features are left out.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from measure import ASSETS, Bar, finish, interleaved, machine, parser
from PIL import Image

from edgetl import Preprocess, native
from edgetl.decode import DECODER, prepare, read_image
from edgetl.engines.base import available_cores
from edgetl.native import jpeg
from edgetl.native.loader import Batch, Loader


def photos(size: tuple[int, int], count: int) -> list[bytes]:
    files = sorted((ASSETS / "data" / "flower_photos" / "train").rglob("*.jpg"))
    if not files:
        sys.exit(f"no photos below {ASSETS}; set EDGETL_ASSETS")
    result = []
    for file in files[:: len(files) // count][:count]:
        stream = io.BytesIO()
        with Image.open(file) as image:
            enlarged = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        enlarged.save(stream, "JPEG", quality=88, subsampling="4:2:0")
        result.append(stream.getvalue())
    return result


def medians(
    contenders: dict[str, Callable[[int], object]], count: int, rounds: int
) -> dict[str, float]:
    """Milliseconds per call of each contender, given the numbers of `count` photos in turn."""

    def over_photos(call: Callable[[int], object]) -> Callable[[], object]:
        numbers = itertools.cycle(range(count))
        return lambda: call(next(numbers))

    turns = {name: over_photos(call) for name, call in contenders.items()}
    return {name: 1e3 * value for name, value in interleaved(turns, rounds * count).items()}


def torchvision_transform(definition: Preprocess) -> Callable[[Image.Image], object]:
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    return v2.Compose(
        [
            v2.Resize(definition.resize, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(definition.size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(definition.mean, definition.std),
        ]
    )


def pillow_numpy(
    definition: Preprocess, pixels: list[np.ndarray], batch: np.ndarray
) -> Callable[[int], object]:
    """Pillow's resize and numpy's arithmetic, into memory that is there."""
    mean = np.float32(definition.mean)[:, None, None]
    std = np.float32(definition.std)[:, None, None]

    def run(index: int) -> object:
        image = Image.fromarray(pixels[index]).resize((341, 256), Image.Resampling.BICUBIC)
        out = batch[index]
        np.divide(np.asarray(image)[16:240, 58:282].transpose(2, 0, 1), np.float32(255), out=out)
        out -= mean
        out /= std
        return out

    return run


def opencv(
    definition: Preprocess, pixels: list[np.ndarray], batch: np.ndarray
) -> dict[str, Callable[[int], object]]:
    """OpenCV's three ways to resize, each with numpy and with its own functions after it."""
    try:
        import cv2
    except ImportError:
        return {}
    cv2.setNumThreads(1)
    values = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    table = (values - np.float32(definition.mean)) / np.float32(definition.std)
    table = table.reshape(1, 256, 3)
    factor = (1 / (255 * np.float32(definition.std)))[:, None, None]
    offset = (np.float32(definition.mean) / np.float32(definition.std))[:, None, None]

    def resized(index: int, how: int) -> np.ndarray:
        return cv2.resize(pixels[index], (341, 256), interpolation=how)[16:240, 58:282]

    def by_table(index: int, how: int) -> None:
        cv2.split(cv2.LUT(resized(index, how), table), list(batch[index]))

    def by_numpy(index: int, how: int) -> None:
        out = batch[index]
        np.multiply(resized(index, how).transpose(2, 0, 1), factor, out=out)
        out -= offset

    def call(way: Callable[[int, int], None], how: int) -> Callable[[int], object]:
        return lambda index: way(index, how)

    return {
        f"opencv_{name}_{end}_ms": call(way, how)
        for name, how in (
            ("area", cv2.INTER_AREA),
            ("cubic", cv2.INTER_CUBIC),
            ("linear", cv2.INTER_LINEAR),
        )
        for end, way in (("table", by_table), ("numpy", by_numpy))
    }


def torchvision_tensors(
    transform: Callable[[object], object], pixels: list[np.ndarray]
) -> dict[str, Callable[[int], object]]:
    """Tensors through torchvision v2: bytes in planes, bytes as decoders give them, and floats."""
    import torch

    views = [torch.from_numpy(image).permute(2, 0, 1) for image in pixels]
    planes = [view.contiguous() for view in views]
    floats = [plane.float() / 255 for plane in planes]
    return {
        "torchvision_uint8_planes_ms": lambda i: transform(planes[i]),
        "torchvision_uint8_pixels_ms": lambda i: transform(views[i]),
        "torchvision_float_ms": lambda i: transform(floats[i]),
    }


def small(rounds: int) -> dict[str, float]:
    """Each way on photos of 500 x 375, in milliseconds, and the ratios that the bars are about."""
    definition = Preprocess()
    files = photos((500, 375), 32)
    pixels = [simplejpeg.decode_jpeg(data, "RGB") for data in files]
    batch = np.empty((len(files), *definition.shape), dtype=np.float32)  # as in an extraction
    transform = torchvision_transform(definition)

    def peer(index: int) -> object:
        with Image.open(io.BytesIO(files[index])) as image:
            return transform(image.convert("RGB"))

    def ours(index: int) -> object:
        return prepare([files[index]], preprocess=definition, out=batch[index : index + 1])

    def through_python(index: int) -> object:
        return definition.apply(read_image(files[index], preprocess=definition), out=batch[index])

    result = medians(
        {
            "decode_ms": lambda i: simplejpeg.decode_jpeg(files[i], "RGB"),
            "edgetl_ms": ours,
            "edgetl_through_python_ms": through_python,
        },
        len(files),
        rounds,
    )
    result["over_decode"] = result["edgetl_ms"] / result["decode_ms"]
    result |= medians(
        {"edgetl_beside_pil_ms": ours, "pil_torchvision_ms": peer}, len(files), rounds
    )
    result["pil_torchvision_ratio"] = result["pil_torchvision_ms"] / result["edgetl_beside_pil_ms"]
    result |= medians(
        {
            "kernel_ms": lambda i: definition.apply(pixels[i], out=batch[i]),
            "pillow_numpy_ms": pillow_numpy(definition, pixels, batch),
            **opencv(definition, pixels, batch),
            **torchvision_tensors(transform, pixels),
        },
        len(files),
        rounds,
    )
    result["pillow_numpy_over_kernel"] = result["pillow_numpy_ms"] / result["kernel_ms"]
    for peer_name in ("opencv_area", "opencv_cubic", "opencv_linear", "torchvision"):
        times = [value for key, value in result.items() if key.startswith(f"{peer_name}_")]
        if times:
            result[f"{peer_name}_over_kernel"] = min(times) / result["kernel_ms"]
    return result


def scaling(rounds: int) -> dict[str, float]:
    """Photos through the native loop in a second, on one of its threads and on two."""
    if available_cores() < 2:
        return {}
    definition = Preprocess()
    files = photos((500, 375), 32) * 8

    def loop(threads: int) -> None:
        loader = Loader(definition, batch_size=32, queue=len(files), threads=threads)
        for number, data in enumerate(files):
            loader.add(number, data)
        loader.close()
        while isinstance(turn := loader.take(help=False), Batch):
            loader.release(turn)

    seconds = interleaved({"one": lambda: loop(1), "two": lambda: loop(2)}, rounds)
    return {
        "loop_1_thread_per_second": len(files) / seconds["one"],
        "loop_2_threads_per_second": len(files) / seconds["two"],
        "loop_2_threads_over_1": seconds["one"] / seconds["two"],
    }


def network() -> Callable[[np.ndarray], np.ndarray] | None:
    """mobilenetv2_100 as a feature function, or None where it can't be had."""
    weights = ASSETS / "weights" / "mobilenetv2_100.safetensors"
    try:
        import timm
        import torch
        from safetensors.torch import load_file
    except ImportError:
        return None
    if not weights.is_file():
        return None
    model = timm.create_model("mobilenetv2_100").eval()
    model.load_state_dict(load_file(weights))
    model.reset_classifier(0)

    def features(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch)).numpy()

    return features


def large(rounds: int) -> dict[str, float]:
    """What decode="scaled" gains and costs on photos of 4000 x 3000."""
    full, scaled = Preprocess(), Preprocess(decode="scaled")
    files = photos((4000, 3000), 10)
    transform = torchvision_transform(full)
    out = np.empty((1, *full.shape), dtype=np.float32)

    def peer(index: int) -> object:
        with Image.open(io.BytesIO(files[index])) as image:
            return transform(image.convert("RGB"))

    result = medians(
        {
            "12mp_decode_ms": lambda i: simplejpeg.decode_jpeg(files[i], "RGB"),
            "12mp_full_ms": lambda i: prepare([files[i]], preprocess=full, out=out),
            "12mp_scaled_ms": lambda i: prepare([files[i]], preprocess=scaled, out=out),
            "12mp_pil_torchvision_ms": peer,
        },
        len(files),
        rounds,
    )
    result["12mp_full_over_scaled"] = result["12mp_full_ms"] / result["12mp_scaled_ms"]
    features = network()
    if features is not None:
        one, other = (
            features(np.stack([way.apply(read_image(data, preprocess=way)) for data in files]))
            for way in (full, scaled)
        )
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines = (one * other).sum(axis=1) / norms
        result["12mp_scaled_cosine_median"] = float(np.median(cosines))
        result["12mp_scaled_cosine_lowest"] = float(cosines.min())
    return result


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--rounds", type=int, default=20, help="times that each photo is timed")
    command.add_argument("--no-large", action="store_true", help="leave out the large photos")
    arguments = command.parse_args()

    if jpeg.library() is None:
        sys.exit(f"the compiled core decodes no JPEG here: {jpeg.description()}")
    figures: dict = {
        "machine": machine("numpy", "pillow", "simplejpeg", "torch", "torchvision", *optional()),
        "decoder": DECODER,
        "jpeg_library": Path(jpeg.description()).name,
        "instruction_set": native.instruction_set(),
    }
    figures |= small(arguments.rounds)
    figures |= scaling(arguments.rounds)
    if not arguments.no_large:
        figures |= large(max(1, arguments.rounds // 10))
    if absent := left_out():
        figures["left_out"] = ", ".join(absent)
    if not arguments.json:
        for key, value in figures.items():
            print(f"{key:32} {value:.4f}" if isinstance(value, float) else f"{key:32} {value}")
    bars = [
        Bar("bytes to tensor over decode alone", figures["over_decode"], "<=", 1.25),
        Bar("PIL + torchvision over ours", figures["pil_torchvision_ratio"], ">=", 2.5),
        Bar("Pillow + numpy over the kernel", figures["pillow_numpy_over_kernel"], ">=", 6),
        Bar("torchvision over the kernel", figures["torchvision_over_kernel"], ">=", 1),
    ]
    bars += [
        Bar(f"OpenCV's INTER_{name.upper()} over the kernel", figures[key], ">=", 1)
        for name in ("area", "cubic", "linear")
        if (key := f"opencv_{name}_over_kernel") in figures
    ]
    if "loop_2_threads_over_1" in figures:
        bars.append(Bar("two threads over one", figures["loop_2_threads_over_1"], ">=", 1.8))
    return finish(figures, bars, as_json=arguments.json)


def optional() -> list[str]:
    """Peers that need not be there."""
    name = "opencv-python-headless"
    return [name] if importlib.util.find_spec("cv2") is not None else []


def left_out() -> list[str]:
    """Bars that can't be looked at here."""
    return [
        what
        for what, possible in (
            ("OpenCV, which is not installed", bool(optional())),
            ("two threads, for want of a second core", available_cores() > 1),
        )
        if not possible
    ]


if __name__ == "__main__":
    sys.exit(main())
