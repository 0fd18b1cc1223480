"""Learning from rewards: classification sets turned into bandit feedback, where the truth is known.

Features of mobilenetv2_100. An action is a class; its reward is 1 for the photo's own and 0 else.
Coordinates come from 100 test photos without labels; rounds are draws from the training photos.

Online: policies that know nothing at first choose 1,000 times, over 20 seeds. Beside them: uniform
chance, epsilon-greedy (1 in 10 choices left to chance, the same model), and, as a bound from above,
a softmax head that is told the label of every photo (``partial_fit``). What is claimed, on both
sets: LinUCB, as it comes, earns at least 3 times what chance does and more than epsilon-greedy.

Off-policy, on the 64 principal axes of the test photos: a fixed softmax policy logs 1,000 choices;
what another one would earn is estimated from 200 such logs and compared with what it earns in
truth. What is claimed: intervals at 95% of IPS, SNIPS and DR cover it in 90% of the logs or more,
and DR errs no more than IPS does. The direct method and clipped IPS are shown without a claim. Then
a policy is learned from each of 20 logs, and earns on the test photos what it earns. Claimed: DR's
earns at least 5 points more than the logging policy, the interval's lower end. "Greedy" is what a
policy expects to be best, without chance; the direct method's is a policy head that is given the
log as rewards, and pays no heed to propensities.

Strengths and widths were settled on draws of seeds from 100 on; the seeds here are from 0. That the
ascent starts from a model of the reward was decided on those draws too, after what seeds 0 to 19
give without it had been seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import ASSETS, Bar, finish, interleaved, machine, parser

from edgetl._fewshot import task_features
from edgetl.bundle import Bundle, Learning, Manifest, with_policy
from edgetl.heads import PolicyHead, SoftmaxHead
from edgetl.heads.arms import Coordinates
from edgetl.preprocess import Preprocess
from edgetl.runtime import LearningOptions, Receiver
from edgetl.transfer.offpolicy import Feedback, evaluate_policy, expected_rewards, greedy
from edgetl.transfer.policy_gradient import OBJECTIVES, PolicyGradient

SETS = ("flower_photos", "caltech101_20")
ROUNDS, LAST, SEEN, LOGS = 1000, 250, 100, 200
RULES = {
    "linucb": {"rule": "linucb"},
    "thompson": {"rule": "thompson"},
    "epsilon-greedy": {"rule": "greedy", "floor": 0.1},
}
ESTIMATES = {
    "ips": {"estimator": "ips"},
    "snips": {"estimator": "snips"},
    "dr": {"estimator": "dr"},
    "dm": {"estimator": "dm"},
    "ips, clip 10": {"estimator": "ips", "clip": 10.0},
    "bernstein": {"estimator": "ips", "clip": 10.0, "interval": "bernstein"},
}


def interval(values) -> tuple[float, float, float]:
    """Mean, and the ends of its interval at 95% (Student's t for 20 seeds, about)."""
    values = np.asarray(values, float)
    half = 2.093 * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def online(train, test, seed: int) -> dict[str, tuple[float, float, float]]:
    """Reward per choice, over all rounds and the last ones, and accuracy on the test photos."""
    X, y = train
    n_actions = int(y.max()) + 1
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(y), ROUNDS)
    known = test[0][rng.permutation(len(test[0]))[:SEEN]]
    earned = {"uniform": (rng.integers(0, n_actions, ROUNDS) == y[rows]).astype(float)}
    right = {"uniform": 1 / n_actions}
    for name, options in RULES.items():
        head = PolicyHead(**options).start(known, np.arange(n_actions))
        earned[name] = np.zeros(ROUNDS)
        for turn, row in enumerate(rows):
            x = X[row : row + 1]
            action = rng.choice(n_actions, p=head.propensities(x)[0])
            earned[name][turn] = action == y[row]
            head.reward(x, [action], earned[name][turn : turn + 1])
        right[name] = head.score(*test)
    told, earned["told labels"] = SoftmaxHead(), np.zeros(ROUNDS)
    for turn, row in enumerate(rows):
        x = X[row : row + 1]
        if turn:
            earned["told labels"][turn] = told.predict(x)[0] == y[row]
        told.partial_fit(x, y[row : row + 1])
    right["told labels"] = told.score(*test)
    return {k: (float(v.mean()), float(v[-LAST:].mean()), right[k]) for k, v in earned.items()}


def policies(train, seed: int):
    """A logging policy and one to be judged, both imperfect, as softmax heads fitted to few."""
    X, y = train
    rng = np.random.default_rng(seed)
    heads = []
    for count in (1, 4):
        rows = [rng.permutation(np.flatnonzero(y == code))[:count] for code in np.unique(y)]
        few = np.concatenate(rows)
        heads.append(SoftmaxHead(C=0.05).fit(X[few], y[few]))

    def logging(rows):
        return 0.7 * heads[0].predict_proba(rows) + 0.3 / (y.max() + 1)

    return logging, heads[1].predict_proba


def logged(chances, axes, y, rng) -> tuple[Feedback, np.ndarray]:
    """A log of choices on drawn photos, by the chances (n, actions) on all; and which photos."""
    rows = rng.integers(0, len(y), ROUNDS)
    draws = (chances[rows].cumsum(axis=1) > rng.random((ROUNDS, 1))).argmax(axis=1)
    rewards = (draws == y[rows]).astype(float)
    return Feedback(axes[rows], draws, rewards, chances[rows, draws], chances.shape[1]), rows


def estimates(train, axes) -> dict[str, dict[str, float]]:
    """Bias, root mean square error and coverage of each estimator over many logs."""
    X, y = train
    logging, target = (policy(X) for policy in policies(train, 0))
    truth = float(target[np.arange(len(y)), y].mean())
    found = {name: [] for name in ESTIMATES}
    for seed in range(LOGS):
        feedback, rows = logged(logging, axes, y, np.random.default_rng(seed))
        model = expected_rewards(feedback, components=None, seed=seed)
        for name, options in ESTIMATES.items():
            one = evaluate_policy(feedback, target[rows], expected=model, **options)
            found[name].append((one.value, one.low <= truth <= one.high, one.high - one.low))
    result: dict[str, dict[str, float]] = {"truth": {"value": truth}}
    for name, values in found.items():
        value, covered, width = np.array(values, float).T
        result[name] = {
            "bias": float(value.mean() - truth),
            "rmse": float(np.sqrt(np.square(value - truth).mean())),
            "coverage": float(covered.mean()),
            "width": float(width.mean()),
        }
    return result


def learned(train, test, axes, seed: int) -> dict[str, float]:
    """What policies earn on the test photos: the logging one, and those learned from its log."""
    X, y = test

    def worth(chances):
        return float(chances[np.arange(len(y)), y].mean())

    logging, _ = policies(train, seed)
    feedback, _ = logged(logging(train[0]), axes[0], train[1], np.random.default_rng(seed))
    found = {"logging": worth(logging(X))}
    for objective in OBJECTIVES:
        options = PolicyGradient(objective=objective, strength=1e-4, components=None)
        head = options.fit(feedback)
        found[objective] = worth(head.predict_proba(axes[1]))
        found[f"{objective}, greedy"] = worth(greedy(head.scores(axes[1])))
    model = PolicyHead("greedy", components=None)
    model.start(feedback.features, np.arange(feedback.n_actions))
    model.reward(feedback.features, feedback.actions, feedback.rewards)
    found["direct, greedy"] = worth(greedy(model.scores(axes[1])))
    return found


def times(dim: int = 1280, actions: int = 10, repeats: int = 200) -> dict[str, float]:
    """Median milliseconds of a choice and of an update, the head's alone and the device's."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, dim)).astype(np.float32)
    turn = iter(range(10**9))
    calls = {}
    for name, components in (("64 axes", 64), ("all 1280", None)):
        head = PolicyHead(components=components).start(X, np.arange(actions))

        def update(head=head):
            i = next(turn)
            head.reward(X[i % 400 : i % 400 + 1], [i % actions], [1.0])

        def choice(head=head):
            i = next(turn) % 400
            head.propensities(X[i : i + 1])

        calls |= {f"head, {name}: choose": choice, f"head, {name}: reward": update}
    with tempfile.TemporaryDirectory() as place:
        device = device_of(Path(place), X, actions)
        waiting = []

        def chosen():
            i = next(turn) % 400
            waiting.extend(device.choose_features(X[i : i + 1]))

        def rewarded():
            device.reward_decisions([waiting.pop().number], 1.0)

        calls |= {"device, 64 axes: choose": chosen, "device, 64 axes: reward": rewarded}
        return {name: 1e3 * seconds for name, seconds in interleaved(calls, repeats).items()}


def device_of(folder: Path, X: np.ndarray, actions: int):
    """The learner of a bundle with a policy."""
    codes = np.arange(len(X)) % 2
    halves = X.astype(np.float16)
    ones, none = np.ones(len(X), np.float32), np.zeros(0, np.int64)
    (folder / "graph.onnx").write_bytes(b"\x08\x08" + bytes(3000))
    manifest = Manifest(
        labels=("a", "b"),
        preprocess=Preprocess(size=32, resize=40),
        backbone="none",
        dim=X.shape[1],
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head="softmax",
        learning="learning.safetensors",
    )
    kept = Learning(halves, codes, ones, halves[:0], none)
    head = SoftmaxHead(C=1.0).fit(X[:100], codes[:100])
    plain = Bundle(manifest, head, folder / "graph.onnx", learning=kept).save(folder / "plain")
    made = with_policy(plain, [f"action {i}" for i in range(actions)]).save(folder / "policy")
    return Receiver(made, LearningOptions()).policy_of()


def run(arguments: argparse.Namespace) -> tuple[dict, list[Bar]]:
    """Measure all of it; figures and bars."""
    seeds = getattr(arguments, "seeds", 20)
    quiet = getattr(arguments, "json", False)
    figures: dict = {"machine": machine("numpy"), "sets": {}}
    bars: list[Bar] = []
    for name in SETS:
        parts = task_features(
            ASSETS / "data" / name,
            backbone="mobilenetv2_100",
            weights=ASSETS / "weights" / "mobilenetv2_100.safetensors",
        )
        train, test = ((part.features, part.targets) for part in parts[:2])
        lives = [online(train, test, seed) for seed in range(seeds)]
        coordinates = Coordinates.of(test[0], 64)
        axes = [coordinates(part[0])[:, :-1] for part in (train, test)]
        judged = estimates(train, axes[0])
        policy_lives = [learned(train, test, axes, seed) for seed in range(seeds)]
        found = {
            "online": {
                who: [interval([life[who][i] for life in lives]) for i in range(3)]
                for who in lives[0]
            },
            "estimates": judged,
            "learned": {
                who: interval([life[who] for life in policy_lives]) for who in policy_lives[0]
            },
        }
        figures["sets"][name] = found
        if not quiet:
            show(name, found, seeds)
        bars += bars_of(name, lives, judged, policy_lives)
    figures["milliseconds"] = times()
    if not quiet:
        print("1,280 features, 10 actions, median milliseconds")
        for what, milliseconds in figures["milliseconds"].items():
            print(f"  {what:<28} {milliseconds:8.3f}")
        print()
    return figures, bars


def show(name: str, found: dict, seeds: int) -> None:
    """Print the figures of one set."""
    print(f"{name}: reward per choice, {ROUNDS} rounds; mean of {seeds} seeds and its interval")
    print(f"  {'':<16}{'all':>24}{f'last {LAST}':>24}{'greedy on test photos':>26}")
    for who, columns in found["online"].items():
        cells = [f"{m:.3f} ({low:.3f} to {high:.3f})" for m, low, high in columns]
        print(f"  {who:<16}{cells[0]:>24}{cells[1]:>24}{cells[2]:>26}")
    truth = found["estimates"]["truth"]["value"]
    print(f"{name}: estimates from {LOGS} logs of {ROUNDS} choices; the truth is {truth:.4f}")
    print(f"  {'':<16}{'bias':>10}{'rmse':>10}{'coverage':>10}{'width':>10}")
    for who, one in found["estimates"].items():
        if who != "truth":
            cells = (f"{one[key]:>10.4f}" for key in ("bias", "rmse", "coverage", "width"))
            print(f"  {who:<16}{''.join(cells)}")
    print(f"{name}: policies learned from a log, reward on the test photos")
    for who, (mean, low, high) in found["learned"].items():
        print(f"  {who:<16}{mean:.3f} ({low:.3f} to {high:.3f})")
    print(flush=True)


def bars_of(name: str, lives: list, judged: dict, policy_lives: list) -> list[Bar]:
    """The claims on one set."""
    gains = [
        ("LinUCB's reward over chance's", [v["linucb"][0] / v["uniform"][0] for v in lives], 3.0),
        (
            "LinUCB's reward minus epsilon-greedy's",
            [v["linucb"][0] - v["epsilon-greedy"][0] for v in lives],
            0.0,
        ),
        (
            "reward of the policy learned by DR minus the logging one's",
            [v["dr"] - v["logging"] for v in policy_lives],
            0.05,
        ),
    ]
    found = [
        Bar(f"{name}, {what}, lower end of the interval", interval(values)[1], ">=", limit)
        for what, values, limit in gains
    ]
    for who in ("ips", "snips", "dr"):
        found.append(Bar(f"{name}, coverage of {who}", judged[who]["coverage"], ">=", 0.9))
    ratio = judged["dr"]["rmse"] / judged["ips"]["rmse"]
    found.append(Bar(f"{name}, rmse of DR over that of IPS", ratio, "<=", 1.0))
    return found


def main() -> int:
    """Run it alone."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="seeds per policy")
    arguments = options.parse_args()
    figures, bars = run(arguments)
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
