"""``edgetl policy``, ``choose``, ``reward`` and ``offpolicy`` on a bundle of colours."""

import json

import numpy as np
import pytest
from colours import bundle_of, write_photo

from edgetl.bundle import Bundle
from edgetl.cli.main import main
from edgetl.runtime import LearningOptions, load

ACTIONS = ("stop", "go", "wait")
BEST = {"red": "stop", "green": "go", "blue": "wait"}


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose features are the mean colour, fitted to red, green and blue."""
    return str(bundle_of(tmp_path / "colours", kind="prototype"))


@pytest.fixture
def policy(bundle, tmp_path, capsys):
    """A bundle with a policy of three actions."""
    path = tmp_path / "policy.edgetl"
    words = ["policy", str(bundle), "-o", str(path), "--actions", ",".join(ACTIONS)]
    assert main([*words, "--rule", "thompson"]) == 0
    assert "policy policy (thompson): stop, go, wait" in capsys.readouterr().out
    return path


def chosen(capsys, policy, *photos):
    """What `choose` prints as JSON."""
    assert main(["choose", str(policy), *photos, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_choices_are_rewarded_by_their_numbers(policy, tmp_path, capsys):
    photos = [write_photo(tmp_path / f"{c}{i}.png", c, i) for i in range(4) for c in BEST]
    for _ in range(5):
        found = chosen(capsys, policy, *photos)
        good = [d["action"] == BEST[c] for d, c in zip(found, list(BEST) * 4, strict=True)]
        pairs = [f"{d['number']}={int(g)}" for d, g in zip(found, good, strict=True)]
        assert main(["reward", str(policy), *pairs]) == 0
        out = capsys.readouterr().out
        assert "rewards: 12, decisions without one: 0" in out
    assert np.mean(good) > 0.8
    assert main(["predict", str(policy), *photos[:3], "--task", "policy", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [a["tasks"]["policy"]["label"] for a in answers] == list(ACTIONS)
    # The history is the policy's own, and the main head is what it was.
    assert main(["rollback", str(policy), "--task", "policy"]) == 0
    assert "generation 6: undo to the head of generation 4" in capsys.readouterr().out
    assert main(["reward", str(policy), "--json"]) == 0
    waiting = json.loads(capsys.readouterr().out)
    assert [d["number"] for d in waiting] == [d["number"] for d in found]


def test_what_waits_is_listed(policy, tmp_path, capsys):
    found = chosen(
        capsys,
        policy,
        write_photo(tmp_path / "a.png", "red"),
        write_photo(tmp_path / "b.png", "red"),
    )
    assert [d["number"] for d in found] == [1, 2]
    assert all(0 < d["propensity"] < 1 and d["task"] == "policy" for d in found)
    assert main(["reward", str(policy), "2=0.5"]) == 0
    capsys.readouterr()
    assert main(["reward", str(policy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1"]
    with load(policy) as device:
        device.policy_of()  # learns there, which is no reason not to look
        assert main(["reward", str(policy), "--all"]) == 0
    assert "reward 0.5" in capsys.readouterr().out.splitlines()[1]


def test_mistakes_are_usage_errors(policy, bundle, tmp_path, capsys):
    for words, what in (
        (["reward", str(policy), "1:1"], "expected NUMBER=REWARD"),
        (["reward", str(policy), "1=1"], "no decision 1; none was made"),
        (["reward", str(policy), f"{10**30}=1"], f"no decision {10**30}; none was made"),
        (
            ["combine", f"a={bundle}", f"b={policy}", f"c={policy}", "-o", str(tmp_path / "new")],
            "further tasks keep their names",
        ),
        (["reward", str(bundle)], "no policy; edgetl policy gives it one"),
        (["reward", str(policy), "1=1", "--all"], "--all lists"),
        (["choose", str(policy), "x.png", "--task", "main"], "does not choose"),
        (["policy", str(policy), "-o", str(tmp_path / "new"), "--actions", "a,b"], "already"),
        (["policy", str(bundle), "-o", str(tmp_path / "new"), "--actions", "a"], "at least 2"),
        (["offpolicy", str(policy), "--as", "main"], "a task 'main' already"),
    ):
        assert main(words) == 2
        assert what in capsys.readouterr().err
    assert main(["choose", str(policy), str(tmp_path / "missing.png")]) == 1
    assert main(["offpolicy", str(policy)]) == 1
    assert "0 decisions of task policy have a reward" in capsys.readouterr().err


def test_a_policy_learned_from_the_log_ships_as_a_task(policy, tmp_path, capsys):
    photos = [write_photo(tmp_path / f"{c}{i}.png", c, i) for i in range(40) for c in BEST]
    colours = list(BEST) * 40
    with load(policy, learning=LearningOptions(seed=1)) as device:
        decisions = device.choose(photos)
        device.reward(
            decisions, [d.action == BEST[c] for d, c in zip(decisions, colours, strict=True)]
        )
        assert main(["offpolicy", str(policy)]) == 2
        assert "save it first" in capsys.readouterr().err
        device.save()
        device.choose(photos[:2])  # which wait for their rewards, and count for nothing yet
    output = tmp_path / "learned.edgetl"
    assert main(["offpolicy", str(policy), "-o", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["samples"] == 120
    assert report["logged"][0] < 1 / 3 < report["logged"][1]  # it knew nothing then
    learned = {one["estimator"]: one for one in report["policies"]["learned"]}
    uniform = {one["estimator"]: one for one in report["policies"]["uniform"]}
    assert learned["dr"]["low"] > uniform["dr"]["high"]
    assert uniform["ips"]["low"] < 1 / 3 < uniform["ips"]["high"]
    made = Bundle.load(output)
    assert made.manifest.record("learned").head == "softmax"
    with load(output) as device:
        found = device.predict(photos[:3], tasks=["learned", "main"])
    assert [one["learned"].label for one in found] == list(ACTIONS)
    assert [one["main"].label for one in found] == list(BEST)
    assert main(["offpolicy", str(policy)]) == 0
    assert "log: 120 rewarded decisions, mean reward" in capsys.readouterr().out


def test_what_is_known_of_forgotten_actions_alone_is_too_little(policy, tmp_path, capsys):
    path = write_photo(tmp_path / "red.png", "red")
    with load(policy, learning=LearningOptions(seed=1)) as device:
        decisions = device.choose([path] * 30)
        device.reward(decisions, 0.5)
        known = sum(d.action != "wait" for d in decisions)
        assert known < 20 < 30
        device.policy_of().forget("wait")
        device.save()
    assert main(["offpolicy", str(policy)]) == 1
    assert f"{known} decisions of task policy have a reward" in capsys.readouterr().err
