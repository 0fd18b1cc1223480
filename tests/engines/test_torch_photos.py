"""Photos through torch, as a GPU does it: here on the CPU, with the kernels' host twin."""

import io
import logging
import threading
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from edgetl import Preprocess, decode
from edgetl._records import precision_notes
from edgetl.engines import torch_jpeg
from edgetl.engines.torch import TorchEngine
from edgetl.engines.torch_lanes import before_pooling
from edgetl.engines.torch_photos import TorchPhotos
from edgetl.errors import MissingDependencyError
from edgetl.native import cuda
from edgetl.targets import Torch

CPU = torch.device("cpu")
PREPROCESS = Preprocess(size=20, resize=24)


class Network(torch.nn.Module):
    """Ends as timm's networks do."""

    def __init__(self, *, head=False):
        super().__init__()
        torch.manual_seed(1)
        self.convolution = torch.nn.Conv2d(3, 12, 3, stride=2)
        self.global_pool = torch.nn.AdaptiveAvgPool2d(1)
        self.global_pool.pool_type = "avg"
        self.head = torch.nn.Linear(12, 12) if head else torch.nn.Identity()

    def forward_features(self, images):
        return torch.relu(self.convolution(images))

    def forward(self, images):
        return self.head(self.global_pool(self.forward_features(images)).flatten(1))


def network(**options):
    return Network(**options).eval().requires_grad_(False).to(memory_format=torch.channels_last)


def photos(count, seed=0, *, longest=90):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(3, longest, (count, 2))
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def expected(module, images):
    batch = torch.from_numpy(np.stack([PREPROCESS.apply(image) for image in images]))
    with torch.inference_mode():
        return module(batch).numpy()


def jpeg(image, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def stream(module, **options):
    return TorchPhotos(lambda: module, PREPROCESS, dim=12, device=CPU, batch_size=4, **options)


@pytest.mark.parametrize("head", [False, True])
def test_batches_come_back_in_order(head):
    module, images = network(head=head), photos(11)
    open_stream = stream(module)
    open_stream.submit(images[:4])
    open_stream.submit(images[4:8])
    results = [open_stream.collect()]
    open_stream.submit(images[8:])
    results += [open_stream.collect(), open_stream.collect()]
    assert all(not failures for _, failures in results)
    features = np.concatenate([features for features, _ in results])
    np.testing.assert_allclose(features, expected(module, images), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close():
    module, images = network(), photos(4)
    open_stream = stream(module, half=True)
    open_stream.submit(images)
    features, _ = open_stream.collect()
    wanted = expected(module, images)
    assert not np.array_equal(features, wanted)
    np.testing.assert_allclose(features, wanted, rtol=0.05, atol=0.02)


def test_pooling_is_taken_over_only_where_it_comes_last():
    shape, dtype = torch.Size((4, 3, 20, 20)), torch.float32
    plain, with_head, other = network(), network(head=True), torch.nn.Flatten()
    with torch.inference_mode():
        assert before_pooling(plain, shape, dtype, CPU) == plain.forward_features
        assert before_pooling(with_head, shape, dtype, CPU) is with_head
        assert before_pooling(other, shape, dtype, CPU) is other


def test_files_are_decoded_by_the_device_and_mixed_with_pixels():
    module, images = network(), photos(4, longest=60)
    mixed = [images[0], jpeg(images[1]), images[2], jpeg(images[3])]
    open_stream = stream(module, decoder="gpu")
    assert open_stream.decodes
    open_stream.submit(mixed)
    features, failures = open_stream.collect()
    assert failures == {}
    pixels = [
        photo if isinstance(photo, np.ndarray) else decode.read_image(photo, preprocess=PREPROCESS)
        for photo in mixed
    ]
    # Both decoders are libjpeg-turbo here.
    np.testing.assert_allclose(features, expected(module, pixels), rtol=1e-3, atol=1e-3)


def test_only_what_the_device_refuses_is_decoded_on_the_cpu(monkeypatch, caplog):
    read, by_cpu = decode.read_image, []
    monkeypatch.setattr(
        decode, "read_image", lambda data, **options: by_cpu.append(data) or read(data, **options)
    )
    module, images = network(), photos(3)
    damaged = jpeg(images[1])[:200]
    open_stream = stream(module, decoder="gpu")
    with caplog.at_level(logging.INFO):
        open_stream.submit([jpeg(images[0]), damaged, jpeg(images[2])])
    features, failures = open_stream.collect()
    assert "decoded on the CPU" in caplog.text and by_cpu == [damaged]
    monkeypatch.undo()
    assert list(failures) == [1] and "truncated" in failures[1]
    pixels = [decode.read_image(jpeg(images[n]), preprocess=PREPROCESS) for n in (0, 2)]
    np.testing.assert_allclose(features[[0, 2]], expected(module, pixels), rtol=1e-3, atol=1e-3)


def test_a_device_that_decodes_nothing_is_an_error(monkeypatch):
    def refuse(*_):
        raise RuntimeError("not compiled with nvJPEG")

    open_stream = stream(network(), decoder="gpu")
    monkeypatch.setattr(torch_jpeg, "decode_planes", refuse)
    with pytest.raises(MissingDependencyError, match=r"nvJPEG; use decoder='cpu'"):
        open_stream.submit([jpeg(photos(1)[0])])


def test_photos_that_shrink_too_much_for_the_kernel_are_prepared_on_the_cpu(monkeypatch):
    module = network()
    definition = Preprocess(size=20, resize=24, fit="squash")
    rng = np.random.default_rng(3)
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8)
        for shape in ((30, 40, 3), (30, 150_000, 3), (25, 25, 3))
    ]
    calls, apply = [], Preprocess.apply

    def count(self, image, **options):
        calls.append(image.shape)
        return apply(self, image, **options)

    open_stream = TorchPhotos(lambda: module, definition, dim=12, device=CPU, batch_size=3)
    monkeypatch.setattr(Preprocess, "apply", count)
    open_stream.submit(images)
    features, _ = open_stream.collect()
    assert calls == [(30, 150_000, 3)]
    batch = torch.from_numpy(np.stack([apply(definition, image) for image in images]))
    np.testing.assert_allclose(features, module(batch).numpy(), rtol=1e-4, atol=1e-5)


def test_photos_that_are_too_much_only_together_are_taken_apart(monkeypatch):
    module = network()
    definition = Preprocess(size=20, resize=24, fit="squash")
    rng = np.random.default_rng(4)
    shapes = ((30, 3000, 3), (40, 30, 3), (3000, 30, 3))
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    calls, apply = [], Preprocess.apply
    monkeypatch.setattr(
        Preprocess, "apply", lambda self, image: calls.append(image.shape) or apply(self, image)
    )
    open_stream = TorchPhotos(lambda: module, definition, dim=12, device=CPU, batch_size=4)
    open_stream.submit([images[0], images[1]])
    open_stream.submit([images[2]])
    assert calls == [], "each fits by itself"
    open_stream.collect(), open_stream.collect()
    open_stream.submit(images)
    features, _ = open_stream.collect()
    assert len(calls) == 1 and max(calls[0]) == 3000
    batch = torch.from_numpy(np.stack([apply(definition, image) for image in images]))
    np.testing.assert_allclose(features, module(batch).numpy(), rtol=1e-4, atol=1e-5)


def test_a_batch_that_fails_leaves_its_buffers(monkeypatch):
    module, images = network(), photos(2)
    open_stream = stream(module)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"\(h, w, 3\)"):
            open_stream.submit([np.zeros((4, 4), np.uint8)])
    open_stream.submit(images)
    features, _ = open_stream.collect()
    np.testing.assert_allclose(features, expected(module, images), rtol=1e-4, atol=1e-5)


def test_closing_ends_its_threads():
    others = set(threading.enumerate())  # of streams that tests before this one left to the end
    open_stream = stream(network())
    open_stream.submit(photos(4))
    own = [thread for thread in threading.enumerate() if thread not in others]
    assert any(thread.name.startswith("edgetl-pack") for thread in own)
    open_stream.close()
    assert not any(thread.is_alive() for thread in own if thread.name.startswith("edgetl-pack"))


def test_misuse_is_refused():
    open_stream = stream(network())
    with pytest.raises(ValueError, match="no batch is under way"):
        open_stream.collect()
    with pytest.raises(ValueError, match="5 photos for a batch of 4"):
        open_stream.submit(photos(5))
    open_stream.submit(photos(1))
    open_stream.submit(photos(1))
    with pytest.raises(ValueError, match="2 of 2 batches under way"):
        open_stream.submit(photos(1))


def backbone():
    return SimpleNamespace(module=network(), dim=12, preprocess=PREPROCESS, fingerprint="abc")


def test_on_the_cpu_an_engine_prepares_no_photos():
    assert TorchEngine(backbone()).open_photos(4) is None


@pytest.mark.skipif(cuda.available(), reason="the CUDA module and a GPU are here")
def test_without_the_kernels_the_cpu_prepares_and_that_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr("edgetl.engines.torch.find_device", torch.device)
    cuda.announce_fallback.cache_clear()
    engine = TorchEngine(backbone(), target=Torch(device="cuda"))
    assert engine.open_photos(4) is None
    assert engine.open_photos(4) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_whatever_changes_features_on_a_gpu_changes_the_fingerprint(monkeypatch):
    monkeypatch.setattr("edgetl.engines.torch.find_device", torch.device)
    targets = [
        Torch(device="cuda"),
        Torch(device="cuda", execution="compile"),
        Torch(device="cuda", decoder="gpu"),
        Torch(device="cuda", precision="bf16"),
        Torch(device="cuda", precision="bf16", decoder="gpu"),
    ]
    prints = [TorchEngine(backbone(), target=target).fingerprint for target in targets]
    monkeypatch.setattr(cuda, "available", lambda: not cuda_here)
    cuda_here = cuda.why_not() is None
    prints.append(TorchEngine(backbone(), target=targets[3]).fingerprint)
    assert len(set(prints)) == len(prints)
    # A replayed graph runs the kernels that eager execution runs.
    eager = Torch(device="cuda", execution="eager")
    assert TorchEngine(backbone(), target=eager).fingerprint == prints[0]
    monkeypatch.setattr(torch_jpeg, "gpu_decoder", lambda: "nvjpeg of another version")
    assert TorchEngine(backbone(), target=targets[2]).fingerprint not in prints


def test_the_evidence_says_what_differs_from_a_device():
    notes = precision_notes(Torch(device="cuda", precision="bf16", decoder="gpu"))
    assert ["bfloat16" in note or "decoded on the GPU" in note for note in notes] == [True, True]
    assert precision_notes(Torch(device="cuda")) == ()


@pytest.mark.skipif(not cuda.available(), reason=f"no GPU to run on: {cuda.why_not()}")
@pytest.mark.parametrize("execution", ["graph", "eager", "compile"])
@pytest.mark.parametrize("decoder", ["cpu", "gpu"])
def test_on_a_gpu(execution, decoder):
    module, images = network(), photos(8)
    # Decoders interpolate colours of lower resolution in different ways: of noise, much differs.
    files = [jpeg(image, subsampling=0) for image in images]
    open_stream = TorchPhotos(
        lambda: network().cuda(),
        PREPROCESS,
        dim=12,
        device=torch.device("cuda:0"),
        batch_size=4,
        execution=execution,
        decoder=decoder,
    )
    pixels = [decode.read_image(file, preprocess=PREPROCESS) for file in files]
    given = files if decoder == "gpu" else pixels
    open_stream.submit(given[:4])
    open_stream.submit(given[4:])
    features = np.concatenate([open_stream.collect()[0], open_stream.collect()[0]])
    loose = 0.1 if decoder == "gpu" else 5e-3  # TensorFloat-32, and another decoder's pixels
    np.testing.assert_allclose(features, expected(module, pixels), rtol=loose, atol=loose)
