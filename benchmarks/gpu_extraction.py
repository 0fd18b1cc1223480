"""Photos to features, beside the common way: the part of `gpu.py` that runs networks."""

from __future__ import annotations

import copy
import io
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gpu_parts import Clock, Scale, torchvision_way
from PIL import Image


class CommonWay:
    """torchvision's transforms photo by photo on the GPU, then a compiled network."""

    def __init__(self, module: torch.nn.Module, clock: Clock, scale: Scale) -> None:
        self.device, self.way = clock.device, torchvision_way(scale.size, scale.resize)
        module = copy.deepcopy(module).to(torch.bfloat16)
        self.module = torch.compile(module) if clock.device.type == "cuda" else module

    def run(self, batches: Sequence[Sequence[Any]]) -> np.ndarray:
        """Features of all photos."""
        from edgetl.engines.torch_jpeg import decode_planes

        results = []
        with torch.inference_mode():
            for batch in batches:
                if isinstance(batch[0], bytes):
                    there = decode_planes(batch, self.device)
                else:
                    there = [
                        torch.from_numpy(image).to(self.device, non_blocking=True).permute(2, 0, 1)
                        for image in batch
                    ]
                images = torch.stack([self.way(x) for x in there]).to(torch.bfloat16)
                images = images.contiguous(memory_format=torch.channels_last)
                results.append(self.module(images).float())
            return torch.cat(results).cpu().numpy()


def run_ours(stream: Any, batches: Sequence[Sequence[Any]]) -> np.ndarray:
    results = []
    for number, batch in enumerate(batches):
        if number >= stream.depth:
            results.append(stream.collect()[0])
        stream.submit(batch)
    while len(results) < len(batches):
        results.append(stream.collect()[0])
    return np.concatenate(results)


def can_decode(files: list[bytes], clock: Clock) -> bool:
    """Whether this torchvision can decode on the device; without it files are left out."""
    from edgetl.engines.torch_jpeg import decode_planes

    try:
        decode_planes(files[:2], clock.device)
    except (AttributeError, RuntimeError) as error:
        print(f"JPEG files are left out: {error}", file=sys.stderr)
        return False
    return True


def measure_extraction(clock: Clock, scale: Scale, images: list[np.ndarray]) -> dict[str, Any]:
    import timm

    from edgetl import Preprocess
    from edgetl.engines.torch_photos import TorchPhotos

    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    definition = Preprocess(size=scale.size, resize=scale.resize)
    figures: dict[str, Any] = {}
    for backbone in scale.backbones:
        torch.manual_seed(0)
        module = timm.create_model(backbone, pretrained=False, num_classes=0).eval()
        module = module.requires_grad_(False).to(clock.device, memory_format=torch.channels_last)
        common = CommonWay(module, clock, scale)
        kinds = (
            {"pixels": images, "jpeg": files} if can_decode(files, clock) else {"pixels": images}
        )
        for what, photos in kinds.items():
            batches = [
                [photos[(start + n) % len(photos)] for n in range(scale.batch)]
                for start in range(0, scale.batches * scale.batch, scale.batch)
            ]
            streams = {
                execution: TorchPhotos(
                    lambda module=module: module,
                    definition,
                    dim=module.num_features,
                    device=clock.device,
                    batch_size=scale.batch,
                    half=True,
                    execution=execution,
                    decoder="gpu" if what == "jpeg" else "cpu",
                )
                for execution in ("graph", "compile")
            }
            contestants: dict[str, Callable[[], np.ndarray]] = {
                "common": lambda common=common, batches=batches: common.run(batches)
            }
            for execution, stream in streams.items():
                contestants[f"edgetl, {execution}"] = lambda s=stream, b=batches: run_ours(s, b)
            found = compare(clock, contestants, scale)
            figures[f"{backbone}, {what}"] = found
            print(f"{backbone}, {what}: {found}", file=sys.stderr, flush=True)
            for stream in streams.values():
                stream.close()
    return figures


def compare(
    clock: Clock, contestants: dict[str, Callable[[], np.ndarray]], scale: Scale
) -> dict[str, Any]:
    """Speeds of extraction and how alike the features are, of those ways that run at all."""
    features, broken = {}, []
    for name, call in contestants.items():
        try:
            features[name] = call()
        except Exception:
            traceback.print_exc()
            broken.append(name)
    if "common" in broken or len(features) < 2:
        raise RuntimeError(f"nothing to compare: {', '.join(broken)} failed")
    common = features.pop("common")
    cosines = [
        (common * ours).sum(1) / np.linalg.norm(common, axis=1) / np.linalg.norm(ours, axis=1)
        for ours in features.values()
    ]
    running = {name: call for name, call in contestants.items() if name not in broken}
    seconds = clock.of_host(running, repeats=max(scale.repeats // 3, 1))
    count = scale.batch * scale.batches
    return {
        "images_per_second": {name: count / value for name, value in seconds.items()},
        "ratio": seconds["common"] / min(seconds[name] for name in features),
        "lowest_cosine_to_common": float(np.min(cosines)),
        "broken": broken,
    }
