"""The definition of preprocessing, and that it equals what torchvision and timm do."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from edgetl import Preprocess
from edgetl.decode import read_image


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "1 <= size <= resize"),
        ({"size": 257}, "1 <= size <= resize"),
        ({"resize": 16385}, "16384"),
        ({"mean": (0.5, 0.5)}, "mean must be three finite numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean must be three finite numbers"),
        ({"std": (1.0, float("inf"), 1.0)}, "std must be three finite numbers"),
        ({"mean": (0.5, 0.5, 1e39)}, "mean must be three finite numbers, in float32 too"),
        ({"std": (1.0, 1.0, 1e39)}, "std must be three finite numbers, in float32 too"),
        ({"std": (1.0, 1e-60, 1.0)}, "std must be positive, in float32 too"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
        ({"std": (1.0, -1.0, 1.0)}, "std must be positive"),
        ({"interpolation": "lanczos"}, "interpolation must be one of"),
        ({"layout": "hwc"}, "layout must be one of"),
        ({"fit": "longest"}, "fit must be one of"),
        ({"decode": "half"}, "decode must be one of"),
        ({"dtype": "float64"}, "dtype must be one of"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**values)


@pytest.mark.parametrize("name", ["size", "resize"])
@pytest.mark.parametrize("value", [224.5, 224.0, np.float64(224), True, "224", None])
def test_sizes_are_integers(name, value):
    with pytest.raises(TypeError, match=f"^{name} must be an integer, got"):
        Preprocess(**{name: value})


@pytest.mark.parametrize("value", ["123", b"123", ("1", "2", "3"), (True, 0.5, 0.5)])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_means_and_deviations_are_numbers(name, value):
    with pytest.raises(TypeError, match=f"^{name} must be three numbers, got"):
        Preprocess(**{name: value})


def test_numbers_of_numpy_become_plain_ones():
    definition = Preprocess(
        size=np.int64(192), resize=np.uint16(256), mean=np.full(3, 0.5, np.float32)
    )
    assert type(definition.size) is type(definition.resize) is int
    assert definition == Preprocess(size=192, mean=(0.5, 0.5, 0.5))
    assert definition.fingerprint == Preprocess(size=192, mean=(0.5, 0.5, 0.5)).fingerprint
    assert json.loads(json.dumps(definition.to_json()))["size"] == 192


@pytest.mark.parametrize(
    "change",
    [{"size": 224.0}, {"resize": True}, {"mean": "123"}, {"std": ["1", "1", "1"]}, {"std": 3}],
)
def test_json_of_other_types_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Preprocess.from_json({**Preprocess().to_json(), **change})


def test_it_is_frozen_and_compares_by_value():
    one = Preprocess(mean=[0.5, 0.5, 0.5])
    assert one == Preprocess(mean=(0.5, 0.5, 0.5))
    assert hash(one) == hash(Preprocess(mean=(0.5, 0.5, 0.5)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.size = 3


DIFFERENT = (
    Preprocess(),
    Preprocess(size=192),
    Preprocess(resize=288),
    Preprocess(interpolation="bilinear"),
    Preprocess(mean=(0.5, 0.456, 0.406)),
    Preprocess(std=(0.5, 0.224, 0.225)),
    Preprocess(layout="nhwc"),
    Preprocess(fit="squash"),
    Preprocess(decode="scaled"),
    Preprocess(dtype="float16"),
    Preprocess(dtype="bfloat16"),
    Preprocess(layout="nhwc", dtype="uint8"),
)


def test_json_and_back():
    for definition in DIFFERENT:
        again = Preprocess.from_json(json.loads(json.dumps(definition.to_json())))
        assert again == definition
        assert again.fingerprint == definition.fingerprint


def test_json_must_have_exactly_the_right_keys():
    values = Preprocess().to_json()
    with pytest.raises(ValueError, match="needs exactly the keys"):
        Preprocess.from_json({**values, "gamma": 2.2})
    values.pop("fit")
    with pytest.raises(ValueError, match="needs exactly the keys"):
        Preprocess.from_json(values)


def test_json_names_the_type_only_where_it_is_not_float32():
    values = Preprocess(layout="nhwc").to_json()
    assert "dtype" not in values
    assert Preprocess.from_json({**values, "dtype": "float32"}) == Preprocess(layout="nhwc")
    stored = Preprocess(layout="nhwc", dtype="uint8").to_json()
    assert stored == {**values, "dtype": "uint8"}


def test_every_field_changes_the_fingerprint():
    assert len(dataclasses.fields(Preprocess)) == len(DIFFERENT) - 3
    prints = {definition.fingerprint for definition in DIFFERENT}
    assert len(prints) == len(DIFFERENT)
    assert all(len(text) == 64 and int(text, 16) >= 0 for text in prints)


def test_fingerprint_is_the_same_in_every_process_and_version():
    # Caches and bundles hold it. When the arithmetic changes, raise `_ARITHMETIC` and change this.
    assert Preprocess().fingerprint == (
        "8636561580259c0648db48c6de2140344efc9990af26b9631e8011a128dc2146"
    )


def test_apply_allocates_or_fills():
    image = np.arange(40 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 30, 3)
    for layout, shape in (("nchw", (3, 8, 8)), ("nhwc", (8, 8, 3))):
        definition = Preprocess(size=8, resize=9, layout=layout)
        result = definition.apply(image)
        assert result.shape == definition.shape == shape
        assert result.dtype == np.float32
        batch = np.zeros((3, *shape), dtype=np.float32)
        assert definition.apply(image, out=batch[1]).base is batch
        np.testing.assert_array_equal(batch[1], result)
        assert not batch[0].any()
        assert not batch[2].any()
    with pytest.raises(TypeError, match="uint8"):
        definition.apply(image.astype(np.float32))
    with pytest.raises(TypeError, match="out must be float32, got uint8"):
        definition.apply(image, out=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="out must have shape"):
        definition.apply(image, out=batch)


def test_bytes_are_allocated_or_filled():
    image = np.arange(40 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 30, 3)
    definition = Preprocess(size=8, resize=9, layout="nhwc", dtype="uint8")
    result = definition.apply(image)
    assert (result.shape, result.dtype) == ((8, 8, 3), np.uint8)
    batch = np.zeros((3, 8, 8, 3), np.uint8)
    assert definition.apply(image, out=batch[1]).base is batch
    np.testing.assert_array_equal(batch[1], result)
    assert not batch[0].any() and not batch[2].any()
    for wrong, error in (
        (np.zeros((8, 8, 3), np.float32), TypeError),
        (np.zeros((3, 8, 8), np.uint8), ValueError),
    ):
        with pytest.raises(error, match="out must"):
            definition.apply(image, out=wrong)


@pytest.mark.parametrize(
    ("dtype", "stored"), [("float16", np.float16), ("bfloat16", np.uint16), ("uint8", np.uint8)]
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_other_types_are_rounded_once(dtype, stored, layout):
    torch = pytest.importorskip("torch")
    image = np.arange(40 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 30, 3)
    definition = Preprocess(size=8, resize=9, layout=layout, dtype=dtype)
    result = definition.apply(image)
    assert (result.shape, result.dtype) == (definition.shape, stored)
    assert definition.array_type == stored
    full = torch.from_numpy(dataclasses.replace(definition, dtype="float32").apply(image))
    if dtype == "uint8":
        channels = (3, 1, 1) if layout == "nchw" else (3,)
        mean = torch.tensor(definition.mean).reshape(channels)
        std = torch.tensor(definition.std).reshape(channels)
        assert torch.equal((torch.from_numpy(result) / 255 - mean) / std, full)
        return
    actual = torch.from_numpy(result.view(np.int16)).view(getattr(torch, dtype))
    assert torch.equal(actual, full.to(getattr(torch, dtype)))


def photos(assets, count):
    files = sorted((assets / "data" / "flower_photos" / "test").rglob("*.jpg"))
    files += sorted((assets / "data" / "caltech101_20" / "test").rglob("*.jpg"))
    return files[:: len(files) // count]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize"), [(224, 256), (224, 224), (96, 110)])
def test_real_photos_equal_torchvision(assets, interpolation, size, resize):
    transforms = pytest.importorskip("torchvision.transforms")
    from torchvision.transforms import v2

    definition = Preprocess(size=size, resize=resize, interpolation=interpolation)
    mode = transforms.InterpolationMode(interpolation)
    classic = transforms.Compose(
        [
            transforms.Resize(resize, mode),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(definition.mean, definition.std),
        ]
    )
    torch = pytest.importorskip("torch")
    modern = v2.Compose(
        [
            v2.Resize(resize, v2.InterpolationMode(interpolation), antialias=True),
            v2.CenterCrop(size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(definition.mean, definition.std),
        ]
    )
    for file in photos(assets, 25):
        actual = definition.apply(read_image(file, preprocess=definition))
        with Image.open(file) as image:
            image = image.convert("RGB")
        np.testing.assert_array_equal(actual, classic(image).numpy(), err_msg=file.name)
        # The newer transforms scale by a product instead of a quotient: one rounding apart.
        np.testing.assert_allclose(actual, modern(image).numpy(), rtol=0, atol=1e-6)


def test_bytes_of_real_photos_equal_torchvision(assets):
    transforms = pytest.importorskip("torchvision.transforms")
    definition = Preprocess(layout="nhwc", dtype="uint8")
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = transforms.Compose([transforms.Resize(256, bicubic), transforms.CenterCrop(224)])
    for file in photos(assets, 25):
        actual = definition.apply(read_image(file, preprocess=definition))
        with Image.open(file) as image:
            wanted = np.asarray(steps(image.convert("RGB")))
        np.testing.assert_array_equal(actual, wanted, err_msg=file.name)


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "tf_mobilenetv3_small_100", "vit_base_patch16_clip_224"]
)
def test_real_photos_equal_timm(assets, name):
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config, is_training=False)
    definition = Preprocess(
        size=config["input_size"][1],
        resize=int(config["input_size"][1] / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )
    for file in photos(assets, 20):
        actual = definition.apply(read_image(file, preprocess=definition))
        with Image.open(file) as image:
            wanted = transform(image.convert("RGB")).numpy()
        np.testing.assert_array_equal(actual, wanted, err_msg=file.name)
