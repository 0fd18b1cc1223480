"""JPEG bytes to a tensor: edgetl beside simplejpeg's decode alone and beside PIL + torchvision.

Every contender runs on one thread, on the same photos, in turns within one run. Photos of 500 x 375
are made from the assets' photos (JPEG, quality 88, 4:2:0), photos of 12 megapixels by enlarging
them. What ``decode="scaled"`` gains in time and changes in mobilenetv2_100's features is printed
without a bar; without torch, timm or the weights the features are left out.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable

import numpy as np
import simplejpeg
from measure import ASSETS, Bar, finish, interleaved, machine, parser
from PIL import Image

from edgetl import Preprocess, native
from edgetl.decode import DECODER, read_image


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


def small(rounds: int) -> dict[str, float]:
    """Each way on photos of 500 x 375, in milliseconds, and the ratios that the bars are about."""
    import torch

    definition = Preprocess()
    files = photos((500, 375), 32)
    pixels = [simplejpeg.decode_jpeg(data, "RGB") for data in files]
    tensors = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in pixels]
    batch = np.empty((len(files), *definition.shape), dtype=np.float32)  # as in an extraction
    transform = torchvision_transform(definition)
    mean = np.float32(definition.mean)[:, None, None]
    std = np.float32(definition.std)[:, None, None]

    def peer(index: int) -> object:
        with Image.open(io.BytesIO(files[index])) as image:
            return transform(image.convert("RGB"))

    def pillow(index: int) -> object:
        image = Image.fromarray(pixels[index]).resize((341, 256), Image.Resampling.BICUBIC)
        out = batch[index]
        np.divide(np.asarray(image)[16:240, 58:282].transpose(2, 0, 1), np.float32(255), out=out)
        out -= mean
        out /= std
        return out

    def ours(index: int) -> object:
        return definition.apply(read_image(files[index], preprocess=definition), out=batch[index])

    result = medians(
        {
            "decode_ms": lambda i: simplejpeg.decode_jpeg(files[i], "RGB"),
            "edgetl_ms": ours,
            "pil_torchvision_ms": peer,
            "kernel_ms": lambda i: definition.apply(pixels[i], out=batch[i]),
            "pillow_numpy_ms": pillow,
            "torchvision_tensor_ms": lambda i: transform(tensors[i]),
        },
        len(files),
        rounds,
    )
    result["over_decode"] = result["edgetl_ms"] / result["decode_ms"]
    result["pil_torchvision_ratio"] = result["pil_torchvision_ms"] / result["edgetl_ms"]
    result["pillow_numpy_over_kernel"] = result["pillow_numpy_ms"] / result["kernel_ms"]
    result["torchvision_tensor_over_kernel"] = result["torchvision_tensor_ms"] / result["kernel_ms"]
    return result


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

    def peer(index: int) -> object:
        with Image.open(io.BytesIO(files[index])) as image:
            return transform(image.convert("RGB"))

    result = medians(
        {
            "12mp_decode_ms": lambda i: simplejpeg.decode_jpeg(files[i], "RGB"),
            "12mp_full_ms": lambda i: full.apply(read_image(files[i], preprocess=full)),
            "12mp_scaled_ms": lambda i: scaled.apply(read_image(files[i], preprocess=scaled)),
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

    figures: dict = {
        "machine": machine("numpy", "pillow", "simplejpeg", "torch", "torchvision"),
        "decoder": DECODER,
        "instruction_set": native.instruction_set(),
    }
    figures |= small(arguments.rounds)
    if not arguments.no_large:
        figures |= large(max(1, arguments.rounds // 10))
    if not arguments.json:
        for key, value in figures.items():
            print(f"{key:32} {value:.4f}" if isinstance(value, float) else f"{key:32} {value}")
    bars = [
        Bar("bytes to tensor over decode alone", figures["over_decode"], "<=", 1.4),
        Bar("PIL + torchvision over ours", figures["pil_torchvision_ratio"], ">=", 2.5),
    ]
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
