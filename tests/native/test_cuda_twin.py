"""The GPU's kernels, run on the host: the same code in plain loops, against independent truths.

What the GPU would do differently is only how threads are scheduled, so each kernel is run with its
threads in several orders (the twin takes the stream's number for it).
"""

import numpy as np
import PIL.Image
import pytest

from edgetl import Preprocess
from edgetl.errors import MissingDependencyError
from edgetl.native import cuda

torch = pytest.importorskip("torch")
ORDERS = [0, 1, 7]  # rising, falling, shuffled
TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def photo(rng, height, width):
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # Only extreme values clip.
    return image if rng.random() < 0.5 else np.where(image < 128, np.uint8(0), np.uint8(255))


def padded(size):
    """Zeroed bytes at a multiple of 64."""
    buffer = np.zeros(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size]


def run(images, definition, *, dtype="float32", last=False, order=0, planar=(), shift=0):
    """A batch through the twin; those in `planar` lie plane by plane."""
    table, size = cuda.lay_out([image.shape for image in images])
    table[:, 0] += shift
    pixels = padded(size + shift)
    for number, (image, row) in enumerate(zip(images, table, strict=True)):
        if number in planar:
            row[1], row[4] = row[3], row[2] * row[3]
            image = image.transpose(2, 0, 1)
        pixels[row[0] : row[0] + image.size] = image.reshape(-1)
    needed = cuda.plan(table, len(pixels), definition, None)
    workspace = padded(needed)
    workspace[:] = 0xCD
    shape = (len(images), 3, definition.size, definition.size)
    out = torch.full(shape, 77, dtype=TORCH.get(dtype, torch.uint8))
    if last:
        out = out.contiguous(memory_format=torch.channels_last)
    cuda.preprocess(
        pixels, table, table, definition=definition, workspace=workspace, out=out, stream=order
    )
    return out


def expected(images, definition):
    """What the CPU's kernel gives; tests/native/test_kernel.py holds it against Pillow."""
    results = np.stack([definition.apply(image) for image in images])
    if definition.layout == "nhwc":
        results = results.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(results))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(4))
def test_random_batches_equal_the_cpu_to_the_bit(order, seed):
    rng = np.random.default_rng(10 * seed + order)
    for _ in range(12):
        images = [
            photo(rng, *rng.integers(1, 400 if rng.random() < 0.7 else 24, 2))
            for _ in range(rng.integers(1, 6))
        ]
        resize = int(rng.integers(1, 260))
        definition = Preprocess(
            size=int(rng.integers(1, resize + 1)),
            resize=resize,
            interpolation=str(rng.choice(["bilinear", "bicubic"])),
            fit=str(rng.choice(["shortest", "squash"])),
        )
        planar = {number for number in range(len(images)) if rng.random() < 0.4}
        try:
            actual = run(
                images,
                definition,
                last=bool(rng.random() < 0.5),
                order=order,
                planar=planar,
                shift=int(rng.integers(0, 40)),
            )
        except ValueError as error:
            assert "shrinks too much" in str(error)
            continue
        assert torch.equal(actual, expected(images, definition)), definition


def test_pillow_agrees():
    rng = np.random.default_rng(5)
    images = [photo(rng, 375, 500), photo(rng, 500, 333), photo(rng, 90, 90)]
    definition = Preprocess(size=224, resize=256, interpolation="bicubic", fit="squash")
    bytes_out = run(images, definition, dtype="uint8", last=True, planar={1})
    for image, actual in zip(images, bytes_out.permute(0, 2, 3, 1).numpy(), strict=True):
        resized = PIL.Image.fromarray(image).resize((256, 256), PIL.Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(actual, np.asarray(resized)[16:240, 16:240])


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (3000, 4000),  # many taps; several chunks, and the ring goes round
        (1200, 250),  # so tall that the height is resized first
        (224, 224),  # nothing changes
        (17, 31),  # enlarging
        (1, 1),
        (1, 700),
    ],
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_typical_sizes(height, width, interpolation):
    rng = np.random.default_rng(height + width)
    images = [photo(rng, height, width), photo(rng, 60, 80), photo(rng, height, width)]
    for size, resize in ((224, 256), (97, 97), (8, 64)):
        definition = Preprocess(size=size, resize=resize, interpolation=interpolation)
        actual = run(images, definition, last=True, planar={2}, order=1)
        assert torch.equal(actual, expected(images, definition)), (size, resize)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_other_types_are_rounded_once(dtype, last):
    rng = np.random.default_rng(2)
    images = [photo(rng, 100, 140), photo(rng, 33, 45)]
    definition = Preprocess(size=50, resize=56)
    actual = run(images, definition, dtype=dtype, last=last)
    if dtype == "uint8":
        raw = Preprocess(size=50, resize=56, layout="nhwc", dtype="uint8")
        assert torch.equal(actual, expected(images, raw))
    else:
        assert torch.equal(actual, expected(images, definition).to(TORCH[dtype]))


@pytest.mark.parametrize("std", [(0.229, 0.224, 0.225), (0.1, 3.0, 1e-5), (7.7, 1.0, 0.5)])
def test_any_mean_and_deviation(std):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    definition = Preprocess(size=16, resize=16, mean=(0.1, -3.0, 0.7), std=std)
    assert torch.equal(run([image], definition), expected([image], definition))


def test_a_photo_that_shrinks_too_much_is_refused_with_its_size():
    table, size = cuda.lay_out([(100, 100, 3), (30, 200_000, 3)])
    definition = Preprocess(size=8, resize=8, fit="squash")
    with pytest.raises(ValueError, match=r"30 x 200000 pixels.*prepare it on the CPU"):
        cuda.plan(table, size, definition, None)


def test_a_photo_beyond_what_was_planned_for_is_left_alone():
    rng = np.random.default_rng(0)
    definition = Preprocess(size=16, resize=16)
    images = [photo(rng, 20, 20), photo(rng, 160, 160)]
    table, size = cuda.lay_out([image.shape for image in images])
    pixels = padded(size)
    for image, row in zip(images, table, strict=True):
        pixels[row[0] : row[0] + image.size] = image.reshape(-1)
    cuda.plan(table, size, definition, None)
    small = table.copy()
    small[1] = small[0]
    workspace = padded(cuda.plan(small, size, definition, None))
    out = np.full((2, 3, 16, 16), -7, np.float32)
    cuda.preprocess(pixels, small, table, definition=definition, workspace=workspace, out=out)
    np.testing.assert_array_equal(out[0], definition.apply(images[0]))
    assert (out[1] == -7).all()


def test_buffers_that_do_not_fit_are_refused():
    definition = Preprocess(size=8, resize=8)
    table, size = cuda.lay_out([(9, 9, 3)])
    pixels, out = padded(size), np.empty((1, 3, 8, 8), np.float32)
    workspace = padded(cuda.plan(table, size, definition, None))
    good = {"definition": definition, "workspace": workspace, "out": out}
    with pytest.raises(ValueError, match="does not lie within 100 bytes"):
        cuda.preprocess(pixels[:100], table, table, **good)
    with pytest.raises(ValueError, match="workspace has 16 bytes"):
        cuda.preprocess(pixels, table, table, **(good | {"workspace": workspace[:16]}))
    with pytest.raises(ValueError, match="multiple of 16 bytes"):
        cuda.preprocess(padded(size + 1)[1:], table, table, **good)
    with pytest.raises(ValueError, match=r"out must be \(1, 3, 8, 8\)"):
        cuda.preprocess(pixels, table, table, **(good | {"out": out[:, :, :, ::-1]}))
    with pytest.raises(TypeError, match="out must be float32"):
        cuda.preprocess(pixels, table, table, **(good | {"out": out.astype(np.float64)}))
    with pytest.raises(TypeError, match="lay_out makes one"):
        cuda.preprocess(pixels, table.astype(np.int32), table, **good)
    with pytest.raises(ValueError, match=r"photo must be \(h, w, 3\)"):
        cuda.lay_out([(4, 4)])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("channels", "side"), [(16, 7), (1280, 7), (300, 5), (5, 1), (3, 90), (2, 1), (513, 2)]
)
@pytest.mark.parametrize("last", [False, True])
def test_pool(order, dtype, channels, side, last):
    torch.manual_seed(channels)
    maps = torch.randn(3, channels, side, side).add(0.3).to(TORCH[dtype])
    maps[1] = 0
    if last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    out = torch.empty(3, channels)
    cuda.pool(maps, out, stream=order)
    mean = maps.double().mean(dim=(2, 3))
    torch.testing.assert_close(out.double(), mean, rtol=2e-5, atol=1e-6)
    cuda.pool(maps, out, unit=True, stream=order)
    unit = torch.nn.functional.normalize(mean, dim=1)
    torch.testing.assert_close(out.double(), unit, rtol=2e-5, atol=1e-6)
    assert not out[1].any()
    for narrow in (torch.float16, torch.bfloat16):
        rounded = torch.empty(3, channels, dtype=narrow)
        cuda.pool(maps, rounded, unit=True, stream=order)
        assert torch.equal(rounded, out.to(narrow))


def test_pool_of_features_that_are_pooled_already_converts():
    features = torch.randn(4, 37).half()
    out = torch.empty(4, 37)
    cuda.pool(features, out)
    assert torch.equal(out, features.float())
    with pytest.raises(ValueError, match="no gaps"):
        cuda.pool(torch.empty(4, 8, 4, 4)[:, :, ::2], out)
    with pytest.raises(ValueError, match=r"out must be \(4, 37\)"):
        cuda.pool(features, out[:3])
    with pytest.raises(ValueError, match="9000 channels"):
        cuda.pool(torch.empty(1, 9000), torch.empty(1, 9000))


def search(queries, memory, k, order=0):
    indices = torch.full((len(queries), k), -5)
    similarities = torch.empty(len(queries), k)
    size = cuda.nearest_workspace(len(queries), len(memory), queries.shape[1], k)
    cuda.nearest(
        queries,
        memory,
        indices=indices,
        similarities=similarities,
        workspace=torch.empty(size, dtype=torch.uint8),
        stream=order,
    )
    return indices, similarities


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("n", "rows", "dim", "k"),
    [(1, 1, 1, 1), (3, 70, 5, 7), (17, 1500, 64, 5), (33, 900, 130, 64), (2, 4000, 8, 10)],
)
def test_nearest(order, dtype, n, rows, dim, k):
    torch.manual_seed(rows)
    queries, memory = torch.randn(n, dim).to(TORCH[dtype]), torch.randn(rows, dim).to(TORCH[dtype])
    indices, similarities = search(queries, memory, k, order)
    products = queries.double() @ memory.double().T
    best = products.topk(k).values
    torch.testing.assert_close(similarities.double(), best, rtol=1e-5, atol=1e-5)
    found = products.gather(1, indices)
    torch.testing.assert_close(found, best, rtol=1e-5, atol=1e-5)
    assert all(len(set(row.tolist())) == k for row in indices)


@pytest.mark.parametrize("order", ORDERS)
def test_of_equal_rows_the_first_ones_win(order):
    torch.manual_seed(0)
    kinds = torch.randint(-3, 4, (6, 10)).float()  # products are exact
    memory = kinds[torch.randint(0, 6, (3000,))]
    queries = torch.randint(-3, 4, (20, 10)).float()
    indices, similarities = search(queries, memory, 40, order)
    products = (queries @ memory.T).numpy()
    expected = np.argsort(-products, axis=1, kind="stable")[:, :40]
    np.testing.assert_array_equal(indices.numpy(), expected)
    np.testing.assert_array_equal(similarities.numpy(), np.take_along_axis(products, expected, 1))


def test_rows_that_are_no_numbers_are_never_found():
    memory = torch.eye(6)
    memory[2] = torch.nan
    indices, similarities = search(torch.ones(1, 6), memory, 6)
    assert indices.tolist() == [[0, 1, 3, 4, 5, -1]]
    assert similarities[0, :5].tolist() == [1.0] * 5


def test_searches_that_make_no_sense():
    with pytest.raises(ValueError, match="k=65 of 100 rows"):
        search(torch.ones(1, 4), torch.ones(100, 4), 65)
    with pytest.raises(ValueError, match="k=3 of 2 rows"):
        search(torch.ones(1, 4), torch.ones(2, 4), 3)
    with pytest.raises(ValueError, match="don't fit each other"):
        search(torch.ones(1, 4), torch.ones(9, 5), 3)
    with pytest.raises(TypeError, match="queries are float32, and memory float16"):
        search(torch.ones(1, 4), torch.ones(9, 4).half(), 3)


@pytest.mark.skipif(cuda.available(), reason="there is a GPU here")
def test_without_a_gpu_the_reason_is_said(caplog):
    cuda.announce_fallback.cache_clear()
    assert cuda.why_not()
    cuda.announce_fallback()
    cuda.announce_fallback()
    assert len(caplog.records) == 1
    assert "photos are prepared on the CPU" in caplog.text

    class OnGpu:
        __cuda_array_interface__ = {"data": (256, False), "shape": (1, 4), "typestr": "<f4"}

    with pytest.raises(MissingDependencyError, match=r"CUDA module|no GPU here"):
        cuda.pool(OnGpu(), OnGpu())
    with pytest.raises(ValueError, match=r"one device.*'maps': 'cuda:0', 'out': 'cpu'"):
        cuda.pool(OnGpu(), np.empty((1, 4), np.float32))
