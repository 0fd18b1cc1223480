"""Fine-tuning on a toy network: the same weights cached, resumed and by a plain loop in torch."""

import dataclasses
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import edgetl
from edgetl import _adapt, _tuned
from edgetl.backbones.module import ModuleBackbone
from edgetl.errors import DataError, MissingDependencyError
from edgetl.preprocess import Preprocess
from edgetl.transfer import tuning
from edgetl.transfer.finetune import Finetune, Session, finetune
from edgetl.transfer.methods import load_method
from edgetl.transfer.recipe import Recipe
from edgetl.transfer.training_state import keep_newest
from edgetl.transfer.tuned_head import OWN

DEFINITION = Preprocess(size=16, resize=16)
FAST = Recipe(unfreeze=1, epochs=3, views=3, batch_size=16, lr=1e-3, start="zeros", device="cpu")


def block(before, after):
    return torch.nn.Sequential(
        torch.nn.Conv2d(before, after, 3, 2, 1, bias=False),
        torch.nn.BatchNorm2d(after),
        torch.nn.ReLU(),
    )


def toy(seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        block(3, 8), block(8, 12), block(12, 16), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return ModuleBackbone("toy", architecture="toy", module=net, preprocess=DEFINITION)


def photos(count=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % classes
    images = []
    for code in codes:
        image = rng.integers(0, 90, (20, 24, 3))
        image[..., code % 3] += 60
        images.append(image.astype(np.uint8))
    return images, codes


def tuned(recipe=FAST, network=None, **options):
    return finetune(network or toy(), *photos(), recipe=recipe, **options)


def weights(network):
    return network.module.state_dict()


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_kept_activations_give_plain_fine_tunings_weights(tmp_path):
    rich = dataclasses.replace(FAST, ema=0.9, mixup=0.3, l2_sp=0.05, gradual=1, unfreeze=2)
    for recipe in (FAST, rich):
        plain = tuned(dataclasses.replace(recipe, cache=False))
        kept = tuned(dataclasses.replace(recipe, storage="float32"), cache=tmp_path)
        for name, value in weights(plain).items():
            torch.testing.assert_close(weights(kept)[name], value, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(kept.classifier[0], plain.classifier[0], rtol=1e-4, atol=1e-6)
    # A cache that is too small, and rounded rows, change the cost and the last digits only.
    partly = tuned(dataclasses.replace(FAST, storage="float32", cache_gb=2e-5))
    halves = tuned(FAST)
    plain = tuned(dataclasses.replace(FAST, cache=False))
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(partly)[name], value, rtol=1e-4, atol=1e-6)
        assert (weights(halves)[name] - value).abs().max() < 0.01


def test_only_the_stages_that_train_change_and_the_given_network_does_not():
    network = toy()
    before = {name: tensor.clone() for name, tensor in weights(network).items()}
    result = tuned(network=network)
    assert same(before, weights(network))
    changed = {name for name in before if not torch.equal(before[name], weights(result)[name])}
    assert changed == {"2.0.weight", "2.1.weight", "2.1.bias"}
    assert result.trained == ["2"] and result.fingerprint != network.fingerprint
    assert not any(tensor.requires_grad for tensor in result.module.parameters())
    train = dataclasses.replace(FAST, batch_norm="train", unfreeze=2)
    learned = weights(tuned(train, network))
    assert not torch.equal(learned["2.1.running_mean"], before["2.1.running_mean"])
    assert torch.equal(learned["0.1.running_mean"], before["0.1.running_mean"])
    everything = weights(tuned(dataclasses.replace(FAST, unfreeze=9), network))
    assert not torch.equal(everything["0.0.weight"], before["0.0.weight"])
    by_name = tuned(dataclasses.replace(FAST, boundary="1.0"), network)
    assert torch.equal(weights(by_name)["1.0.weight"], before["1.0.weight"])
    assert not torch.equal(weights(by_name)["1.1.weight"], before["1.1.weight"])


def test_one_epoch_is_that_of_a_plain_loop_in_torch():
    recipe = dataclasses.replace(
        FAST, epochs=1, views=1, validation=0, dropout=0, weight_decay=0.1, unfreeze=2, warmup=0
    )
    found = tuned(recipe)
    network, (images, codes) = toy(), photos()
    net = network.module
    x = torch.from_numpy(np.stack([DEFINITION.apply(image) for image in images]))
    y = torch.from_numpy(codes)
    head = torch.nn.Linear(16, 3)
    torch.nn.init.zeros_(head.weight), torch.nn.init.zeros_(head.bias)
    groups = [
        {"params": [net[2][0].weight, head.weight], "lr": 1e-3, "weight_decay": 0.1},
        {"params": [*net[2][1].parameters(), head.bias], "lr": 1e-3, "weight_decay": 0},
        {"params": [net[1][0].weight], "lr": 0.8e-3, "weight_decay": 0.1},
        {"params": [*net[1][1].parameters()], "lr": 0.8e-3, "weight_decay": 0},
    ]
    for group in groups:
        group["peak"] = group["lr"]
        for tensor in group["params"]:
            tensor.requires_grad_(True)
    optimizer = torch.optim.AdamW(groups)
    order = np.random.default_rng([0, 0]).permutation(60)
    for step, place in enumerate(np.array_split(order, 4)):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 + np.cos(np.pi * step / 4)) / 2
        logits = head(net(x[place]))
        chances = torch.log_softmax(logits, dim=1)
        smooth = 0.1 / 3 + 0.9 * torch.nn.functional.one_hot(y[place], 3)
        optimizer.zero_grad()
        (-(smooth * chances).sum(dim=1).mean()).backward()
        optimizer.step()
    start = toy().module.state_dict()
    for name, value in net.state_dict().items():
        # Adam divides by the gradients' size, and so enlarges the rounding of small ones.
        apart = (weights(found)[name] - value).double().norm()
        assert apart <= 0.01 * (value - start[name]).double().norm()
    np.testing.assert_allclose(found.classifier[0], head.weight.detach(), rtol=1e-3, atol=1e-5)


class Stopped(Exception):
    pass


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    recipe = dataclasses.replace(FAST, epochs=4, ema=0.9, batch_norm="train", gradual=1, unfreeze=2)
    whole = tuned(recipe)
    ran = []
    original = tuning.Tuning.run_epoch

    def stopping(self, inputs, train):
        ran.append(self.progress.epoch)
        if len(ran) == 3:
            raise Stopped
        return original(self, inputs, train)

    monkeypatch.setattr(tuning.Tuning, "run_epoch", stopping)
    with pytest.raises(Stopped):
        tuned(recipe, cache=tmp_path)
    again = tuned(recipe, cache=tmp_path)
    assert ran == [0, 1, 2, 2, 3]
    assert same(weights(whole), weights(again))
    assert np.array_equal(whole.classifier[0], again.classifier[0])
    losses = [[row["loss"] for row in network.history] for network in (whole, again)]
    assert losses[0] == losses[1]
    # Finished: nothing is trained again; other options: nothing of it is taken up.
    assert same(weights(tuned(recipe, cache=tmp_path)), weights(whole)) and len(ran) == 5
    tuned(dataclasses.replace(recipe, lr=1e-4), cache=tmp_path)
    assert ran[5:] == [0, 1, 2, 3]


def test_a_damaged_checkpoint_is_not_taken_up(tmp_path):
    whole = tuned(cache=tmp_path)
    (path,) = (tmp_path / "finetune").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert same(weights(tuned(cache=tmp_path)), weights(whole))


def test_old_checkpoints_give_way(tmp_path):
    for place in range(4):
        (tmp_path / f"{place}.safetensors").touch()
        os.utime(tmp_path / f"{place}.safetensors", (place, place))
    for name, age in ((".8.safetensors.1", 9000), (".9.safetensors.2", 9)):  # unfinished
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    keep_newest(tmp_path / "0.safetensors", 2)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".9.safetensors.2", "0.safetensors", "2.safetensors", "3.safetensors"]


def test_checkpointing_saves_memory_and_changes_no_weight():
    plain = tuned(dataclasses.replace(FAST, unfreeze=2))
    less = tuned(dataclasses.replace(FAST, unfreeze=2, checkpointing=True))
    assert same(weights(plain), weights(less))
    assert "forward" not in vars(less.module[2])


def test_bfloat16_trains_to_about_the_same():
    plain, half = tuned(), tuned(dataclasses.replace(FAST, precision="bf16"))
    assert not same(weights(plain), weights(half))
    for name, value in weights(plain).items():
        assert value.dtype == weights(half)[name].dtype
        assert (weights(half)[name] - value).abs().max() < 0.02


def test_training_stops_where_held_out_samples_gain_nothing():
    images, codes = photos()
    hopeless = np.random.default_rng(1).permutation(codes)
    recipe = dataclasses.replace(FAST, epochs=40, patience=2, lr=0.02, validation=0.3)
    result = finetune(toy(), images, hopeless, recipe=recipe)
    assert len(result.history) == result.best_epoch + 2 < 40
    losses = [row["log_loss"] for row in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1
    assert len(result.held_out) == 18
    assert np.bincount(hopeless[result.held_out]).tolist() == [6, 6, 6]


def test_copies_of_a_photo_that_trains_are_never_held_out():
    images, codes = photos(30)
    result = finetune(toy(), images * 2, np.tile(codes, 2), recipe=FAST)
    assert not {place % 30 for place in result.held_out} & {
        place % 30 for place in set(range(60)) - set(result.held_out.tolist())
    }


def test_what_cant_be_read_is_left_out_and_a_class_without_a_photo_is_an_error():
    images, codes = photos(30)
    images[4] = b"no photo"
    result = finetune(toy(), images, codes, recipe=FAST)
    assert 4 not in result.held_out
    broken = [
        b"no photo" if code == 1 else image for image, code in zip(images, codes, strict=True)
    ]
    with pytest.raises(DataError, match=r"got \[10, 0, 10\] samples per class \(sample 1: "):
        finetune(toy(), broken, codes, recipe=FAST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unfreeze": 0}, "unfreeze must be 1 or more"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"layer_decay": 1.5}, "layer_decay must be above 0 and at most 1"),
        ({"validation": 1.0}, "validation must be at least 0 and below 1"),
        ({"optimizer": "adam"}, "optimizer must be one of"),
        ({"lora": 4, "l2_sp": 0.1}, "lora leaves the pretrained weights"),
        ({"batch_norm": "train", "batch_size": 2}, "batch_size must be 3 or more, got 2"),
        ({"checkpointing": True, "batch_norm": "train"}, "choose one of them"),
    ],
)
def test_bad_recipes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Finetune(**options)


def test_adapt_ships_the_tuned_network(monkeypatch, tmp_path):
    monkeypatch.setattr(_adapt, "load_backbone", lambda *_, **__: toy())
    images, codes = photos(90)
    method = load_method(
        "finetune", {"epochs": "4", "unfreeze": "2", "lr": "0.01", "device": "cpu"}
    )
    assert isinstance(method, Finetune) and method.recipe.epochs == 4
    bundle = edgetl.adapt(
        (images, codes.tolist()), backbone="toy", method=method, output=tmp_path / "toy.edgetl"
    )
    record = bundle.evidence.extra["method"]
    assert record["name"] == "finetune" and record["options"]["lr"] == 0.01
    details = record["details"]
    assert details["trained"] == ["1", "2"] and len(details["history"]) == details["epochs"]
    assert f"on {details['held_out']} samples that the network was not tuned on" in record["reason"]
    assert "no adaptation" in bundle.evidence.baselines
    assert bundle.evidence.accuracy > 0.9
    assert edgetl.load(tmp_path / "toy.edgetl").predict(images[1]).label == str(codes[1])


def test_a_training_that_comes_apart_says_so_and_leaves_no_checkpoint(tmp_path):
    recipe = dataclasses.replace(FAST, lr=1e30, layer_decay=1.0, warmup=0, unfreeze=3)
    for validation in (0.15, 0.0):
        with pytest.raises(ValueError, match=r"came apart in epoch .* try a rate lr below 1e"):
            tuned(dataclasses.replace(recipe, validation=validation), cache=tmp_path)
    for file in (tmp_path / "finetune").glob("*"):
        assert all(torch.isfinite(value).all() for value in load_file(file).values())


def test_what_cant_be_trained_is_refused_before_a_photo_is_read():
    unread = [b"no photo"] * 4
    for changed, error, message in (
        ({"boundary": "3"}, ValueError, "nothing after '3' has parameters to train"),
        ({"boundary": "no"}, ValueError, "no module 'no'"),
        ({"device": "abacus"}, ValueError, "is no torch device"),
        ({"device": "cuda:99"}, MissingDependencyError, "cuda devices here"),
    ):
        recipe = dataclasses.replace(FAST, **changed)
        given = photos(6) if error is ValueError else (unread, [0, 1, 0, 1])
        with pytest.raises(error, match=message):
            finetune(toy(), *given, recipe=recipe)
    for codes in ([0, 1], [], [0, 1, -1, 0], [0.5, 1, 0, 1]):
        with pytest.raises(ValueError, match="targets must be"):
            finetune(toy(), unread, np.array(codes), recipe=FAST)


class Moody(torch.nn.Module):
    """Its own code, as that of some networks, does something else in training mode."""

    def __init__(self):
        super().__init__()
        self.body = toy().module

    def forward(self, x):
        return self.body(x) * (0.0 if self.training else 1.0)


def test_a_networks_own_code_trains_as_it_ships():
    network = ModuleBackbone("m", architecture="m", module=Moody(), preprocess=DEFINITION)
    found = tuned(dataclasses.replace(FAST, unfreeze=9), network)
    plain = tuned(dataclasses.replace(FAST, unfreeze=9))
    for name, value in weights(plain).items():
        assert torch.equal(weights(found)[f"body.{name}"], value)


def test_a_bundle_and_its_export_know_what_the_network_was_not_tuned_on(monkeypatch, tmp_path):
    monkeypatch.setattr(_adapt, "load_backbone", lambda *_, **__: toy())
    for part, count, seed in (("train", 90, 0), ("test", 60, 1)):
        for place, (image, code) in enumerate(zip(*photos(count, seed=seed), strict=True)):
            folder = tmp_path / "data" / part / str(code)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{place}.png")
    method = Finetune(epochs=2, unfreeze=1, validation=0.3, views=1, device="cpu", lr=0.01)
    bundle = edgetl.adapt(
        tmp_path / "data",
        backbone="toy",
        method=method,
        head="ridge",
        options=edgetl.AdaptOptions(cache=False),
        output=tmp_path / "toy.edgetl",
    )
    assert bundle.evidence.extra["method"]["details"]["held_out"] == 27
    assert len(bundle.learning.novelty["calibration"]) == 27

    options = edgetl.ExportOptions(budget_ms=10_000, verify_seconds=0.02)
    exported = edgetl.export(bundle, output=tmp_path / "exported.edgetl", options=options)
    assert not any("was kept as" in note for note in exported.evidence.run.notes)
    assert len(exported.learning.novelty["calibration"]) == 27
    assert exported.head.temperature_ == pytest.approx(bundle.head.temperature_, rel=0.01)
    (tried,), (before,) = (item.evidence.head.candidates for item in (exported, bundle))
    assert tried["accuracy"] == pytest.approx(before["accuracy"], abs=0.04)
    with edgetl.load(tmp_path / "exported.edgetl") as device:
        assert device.learn(photos(1, seed=5)[0][0], "0").kept

    # Other samples than those it was tuned on, or the classifier that was tuned with it.
    digests = [int(number).to_bytes(8, "big") for number in bundle.checks.train_digests]
    part = SimpleNamespace(digests=digests, targets=np.zeros(90, np.int64))
    assert len(_tuned.unseen_rows(bundle, part)) == 90
    assert _tuned.unseen_rows(bundle, SimpleNamespace(digests=digests[1:])) is None
    assert _tuned.is_tuned(bundle) and not _tuned.has_own_classifier(bundle)
    head = dataclasses.replace(bundle.evidence.head, candidates=({"kind": OWN, "chosen": True},))
    evidence = dataclasses.replace(bundle.evidence, head=head)
    manifest = dataclasses.replace(bundle.manifest, evidence=evidence)
    assert _tuned.has_own_classifier(dataclasses.replace(bundle, manifest=manifest))


def test_an_onnx_file_has_nothing_to_train():
    task = type("Task", (), {"network": type("File", (), {"name": "a.onnx"})()})()
    with pytest.raises(TypeError, match=r"a\.onnx has no torch module to train"):
        Finetune().network(task)


def test_a_session_gives_its_steps():
    images, codes = photos()
    with Session(toy(), images, codes, recipe=FAST) as session:
        assert session.fill() == 3 * len(session.train) + len(session.held_out)
        assert session.fill() == 0
        assert session.tuning.run_epoch(session.inputs, session.train)["epoch"] == 1
