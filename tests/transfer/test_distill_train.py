"""The training of a student: what it learns, and that an interruption changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch

from edgetl.transfer.distill_lesson import Lesson, Machine, Student
from edgetl.transfer.distill_options import DistillOptions, DistillRecipe
from edgetl.transfer.distill_train import schedule, train_student
from edgetl.transfer.training_state import Checkpoint
from edgetl.transfer.weight_average import average_into, ema_decay

RECIPE = DistillRecipe(epochs=4, batch_size=8, learning_rate=0.01, ema=0.9)


class Small(torch.nn.Module):
    """Convolution, batch norm, dropout: all that has a state or draws numbers."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 6, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(6)
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, x):
        return self.dropout(torch.relu(self.norm(self.convolution(x)))).mean((2, 3))


def lesson(count=48, views=2):
    """Photos whose targets are a random convolution's features: a student can learn them."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(count, views, 3, 9, 9)).astype(np.float32)
    images *= generator.uniform(0.2, 2, size=(count, 1, 3, 1, 1)).astype(np.float32)
    torch.manual_seed(1)
    teacher = torch.nn.Conv2d(3, 5, 3)
    with torch.no_grad():
        seen = torch.relu(teacher(torch.from_numpy(images.reshape(-1, 3, 9, 9)))).mean((2, 3))
    targets = seen.numpy().reshape(count, views, 5)
    targets = (targets - targets.mean((0, 1))) / targets.std((0, 1))
    order = generator.permutation(count)
    return Lesson(lambda p, v: images[p, v], [targets], order[8:], order[:8])


def student(teachers=1):
    torch.manual_seed(0)
    generator = np.random.default_rng(5)
    shapes = [(5, 6)] * teachers
    return Student(
        Small(),
        [(generator.normal(size=s).astype(np.float32), np.zeros(5, np.float32)) for s in shapes],
    )


def state(trained):
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("change", [{}, {"loss": "mse"}, {"relational": 0.5}])
def test_a_student_learns(change):
    recipe = dataclasses.replace(RECIPE, epochs=15, patience=15, **change)
    trained = train_student(student(), lesson(), recipe=recipe, seed=0)
    assert trained.epochs[trained.best].cosine > trained.epochs[0].cosine + 0.2
    assert trained.epochs[-1].loss < trained.epochs[0].loss
    assert not trained.network.training
    assert not any(value.requires_grad for value in trained.network.parameters())


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_it_depends_on_the_seed_alone_and_leaves_torchs_generator(two_threads):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    recipe = dataclasses.replace(RECIPE, epochs=2)
    first, second, third = (
        train_student(student(), lesson(), recipe=recipe, seed=seed, machine=Machine(workers=w))
        for seed, w in ((1, 1), (1, 3), (2, 1))
    )
    assert_same(state(first), state(second))
    assert not torch.equal(first.network.convolution.weight, third.network.convolution.weight)
    student()
    torch.manual_seed(7)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("stop", [1, 5, 7, 13])
def test_an_interrupted_training_ends_as_if_it_had_not_been(stop, tmp_path, monkeypatch):
    monkeypatch.setattr("edgetl.transfer.distill_train._SAVE_SECONDS", -1.0)  # after every step
    expected = train_student(student(), lesson(), recipe=RECIPE, seed=3)

    def interrupt(steps):
        if steps == stop:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "unfinished", "a key")
    with pytest.raises(KeyboardInterrupt):
        train_student(
            student(),
            lesson(),
            recipe=RECIPE,
            seed=3,
            machine=Machine(after_step=interrupt),
            checkpoint=checkpoint,
        )
    said = []
    trained = train_student(
        student(),
        lesson(),
        recipe=RECIPE,
        seed=3,
        machine=Machine(say=said.append),
        checkpoint=checkpoint,
    )
    assert trained.resumed and said[0].startswith("going on in epoch")
    assert_same(state(expected), state(trained))
    assert trained.epochs == expected.epochs and trained.best == expected.best
    assert [file.name for file in tmp_path.iterdir()] == ["unfinished"]


def test_what_is_no_checkpoint_of_this_training_is_not_gone_on_with(tmp_path):
    path = tmp_path / "unfinished"
    checkpoint = Checkpoint(path, "mine")
    assert checkpoint.load() is None
    checkpoint.save({"a": torch.arange(3)}, {"epoch": 2})
    tensors, kept = checkpoint.load()
    assert torch.equal(tensors["a"], torch.arange(3)) and kept == {"epoch": 2}
    assert Checkpoint(path, "another's").load() is None
    path.write_bytes(path.read_bytes()[:-5])
    assert checkpoint.load() is None
    checkpoint.clear()
    assert not path.exists()


def test_progress_ends_with_all_photos_of_each_epoch(capsys):
    recipe = dataclasses.replace(RECIPE, epochs=2, batch_size=64)
    train_student(student(), lesson(), recipe=recipe, seed=0, machine=Machine(progress=True))
    shown = capsys.readouterr().err.splitlines()
    assert ["40 of 40 photos of epoch 1/2" in line for line in shown] == [True, False]
    assert "40 of 40 photos of epoch 2/2" in shown[1]


def test_patience_ends_it():
    recipe = dataclasses.replace(RECIPE, epochs=30, learning_rate=1e-9, patience=2, ema=0)
    trained = train_student(student(), lesson(), recipe=recipe, seed=0)
    assert len(trained.epochs) == trained.best + 3 < 30


def test_several_teachers():
    one = lesson()
    both = Lesson(
        one.images, [one.targets[0], -one.targets[0][:, :, ::-1]], one.train, one.held_out
    )
    recipe = dataclasses.replace(RECIPE, epochs=15, patience=15)
    trained = train_student(student(2), both, recipe=recipe, seed=0)
    assert trained.epochs[-1].loss < trained.epochs[0].loss


def test_a_rate_that_is_too_high_is_an_error():
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, loss="mse")
    with pytest.raises(ValueError, match="came apart"):
        train_student(student(), lesson(), recipe=recipe, seed=0)


def test_the_schedule_is_torchs_cosine_after_the_rise():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
    for step in range(10, 100):
        assert schedule(step, 100, warmup=0.1) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        cosine.step()
    rise = [schedule(step, 100, warmup=0.1) for step in range(10)]
    assert rise == sorted(rise) and 0 < rise[0] < rise[-1] < 1
    assert schedule(0, 1, warmup=0) == 1


def test_averaging_is_torchs():
    module = Small()
    mean = torch.optim.swa_utils.AveragedModel(
        module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8), use_buffers=True
    )
    mean.update_parameters(module)
    ours = Small()
    ours.load_state_dict(module.state_dict())
    for _ in range(5):
        with torch.no_grad():
            for value in module.parameters():
                value.add_(torch.rand_like(value))
        module(torch.rand(4, 3, 9, 9))
        mean.update_parameters(module)
        average_into(ours.state_dict(), module.state_dict(), decay=0.8)
    for name, value in mean.module.state_dict().items():
        expected = value if value.is_floating_point() else module.state_dict()[name]
        torch.testing.assert_close(ours.state_dict()[name], expected)
    assert [round(ema_decay(step, 0.9), 3) for step in (0, 10, 1000)] == [0.1, 0.55, 0.9]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"warmup": 1},
        {"ema": 1},
        {"whitening": 2},
        {"loss": "l1"},
        {"relational": float("nan")},
        {"patience": 0},
    ],
)
def test_recipes_are_checked(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        DistillRecipe(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 0}, "views"),
        ({"held_out": 1}, "held_out"),
        ({"seed": -1}, "seed"),
        ({"size": 4}, "size"),
    ],
)
def test_options_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        DistillOptions(**change)
