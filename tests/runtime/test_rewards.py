"""Policies on a device: choices that are logged, rewards that come late, undo, restarts."""

import numpy as np
import pytest
from learning_kit import DIM, LABELS, drawn, save_bundle, save_features

from edgetl.bundle import Bundle, Manifest, with_policy
from edgetl.errors import CorruptError, StorageError
from edgetl.heads import PolicyHead, SoftmaxHead
from edgetl.runtime import LearningOptions, diff
from edgetl.runtime.rewarded import Rewarded, decisions_of, log_of

ACTIONS = ("water", "cut", "leave")


class Device(Rewarded):
    """A runtime whose samples are features already."""

    def features(self, samples):
        return np.array(samples, np.float32)


def policy_bundle(folder):
    """A bundle with a softmax head and a policy of three actions that knows nothing."""
    plain = Bundle.load(save_bundle(folder / "plain", "softmax"))
    policy = PolicyHead("thompson", components=8, strength=0.1)
    return with_policy(plain, ACTIONS, policy=policy).save(folder / "policy.edgetl").path


@pytest.fixture
def path(tmp_path):
    return policy_bundle(tmp_path)


def opened(path, **options):
    """The device that learns there."""
    return Device(Bundle.load(path), LearningOptions(**{"seed": 5, **options}))


def best_of(label):
    """Which action the world rewards for a sample of a class."""
    return ACTIONS[LABELS.index(label) % 3]


def lived(device, rounds, *, seed=1, late=0):
    """Rounds of choosing and being rewarded, each reward `late` rounds later; the hits."""
    names = [LABELS[i] for i in np.random.default_rng(seed).integers(0, 4, rounds)]
    hits, waiting = [], []
    for x, name in zip(drawn(names, seed), names, strict=True):
        decision = device.choose(x)
        hits.append(decision.action == best_of(name))
        waiting.append((decision, float(hits[-1])))
        if len(waiting) > late:
            device.reward(*waiting.pop(0))
    for decision, reward in waiting:
        device.reward(decision, reward)
    return np.array(hits)


def test_rewards_teach_which_action_suits_which_sample(path):
    with opened(path) as device:
        hits = lived(device, 150)
        assert hits[-50:].mean() > 0.75 > hits[:10].mean() + 0.1
        names = [LABELS[i % 4] for i in range(80)]
        found = device.tasks["policy"].answer(drawn(names, 9))
    right = np.mean([f.label == best_of(name) for f, name in zip(found, names, strict=True)])
    assert right > 0.85


def test_a_decision_is_logged_with_the_propensity_it_was_drawn_by(path):
    rows = drawn([LABELS[i % 4] for i in range(300)], 3)
    with opened(path) as device:
        lived(device, 20)
        policy = device.policy_of()
        chances = policy._head.propensities(rows.astype(np.float16))
        decisions = device.choose(list(rows))
        stated = [chances[i, ACTIONS.index(d.action)] for i, d in enumerate(decisions)]
        assert [d.propensity for d in decisions] == pytest.approx(stated, rel=1e-12)
        assert [d.number for d in decisions] == list(range(21, 321))
        kept = policy.decisions(waiting=True)
        assert [(d.number, d.action, d.propensity) for d in kept] == [
            (d.number, d.action, d.propensity) for d in decisions
        ]
        # Drawn as often as said: 300 draws, each action within 4 standard deviations.
        for code, action in enumerate(ACTIONS):
            drawn_ones = sum(d.action == action for d in decisions)
            spread = np.sqrt((chances[:, code] * (1 - chances[:, code])).sum())
            assert abs(drawn_ones - chances[:, code].sum()) < 4 * spread


def test_what_is_drawn_depends_on_the_seed_and_the_number_alone(path, tmp_path):
    rows = list(drawn([LABELS[i % 4] for i in range(40)], 3))
    with opened(path) as device:
        first = [d.action for d in device.choose(rows[:20])] + [
            device.choose(row).action for row in rows[20:]
        ]
    again = Bundle.load(path).save(tmp_path / "again.edgetl").path
    with opened(again) as device:
        assert [d.action for d in device.choose(rows)] == first
    for place in ("one", "two"):
        Bundle.load(path).save(tmp_path / f"{place}.edgetl")
    found = []
    for place in ("one", "two"):
        with opened(tmp_path / f"{place}.edgetl", seed=None) as device:
            found.append([d.action for d in device.choose(rows)])
    assert found[0] != found[1]  # one in 3^40


def test_a_reward_that_comes_late_and_after_a_restart_counts_the_same(path, tmp_path):
    other = Bundle.load(path).save(tmp_path / "other.edgetl").path
    rows = list(drawn([LABELS[i % 4] for i in range(12)], 3))
    rewards = np.linspace(0, 1, 12)
    with opened(path) as device:
        numbers = [d.number for d in device.choose(rows)]
        for number, reward in zip(numbers, rewards, strict=True):
            device.reward(number, reward)
        together = device.tasks["policy"].head
    with opened(other) as device:
        device.choose(rows)
    with opened(other) as device:  # another process
        for number, reward in zip(numbers[:6], rewards[:6], strict=True):
            device.reward(number, reward)
    assert not np.allclose(
        Device(Bundle.load(other), None).tasks["policy"].head.coef_, together.coef_
    )
    with opened(other) as device:
        device.reward(numbers[6:], rewards[6:])
        apart = device.tasks["policy"].head
        assert device.policy_of().decisions(waiting=True) == []
    np.testing.assert_array_equal(apart.coef_, together.coef_)
    resumed = Device(Bundle.load(other), None).tasks["policy"].head
    np.testing.assert_array_equal(resumed.coef_, together.coef_)


def test_undo_takes_a_reward_back_and_it_can_be_given_again(path):
    rows = list(drawn([LABELS[i % 4] for i in range(6)], 3))
    with opened(path) as device:
        numbers = [d.number for d in device.choose(rows)]
        device.reward(numbers[0], 1.0)
        before = device.tasks["policy"].head.coef_.copy()
        device.reward(numbers[1], 1.0)
        after = device.tasks["policy"].head.coef_.copy()
        policy = device.policy_of()
        update = policy.undo()
        np.testing.assert_array_equal(device.tasks["policy"].head.coef_, before)
        assert [d.number for d in policy.decisions(waiting=True)] == numbers[1:]
        assert policy.log().numbers.tolist() == numbers[:1]
        device.reward(numbers[1], 1.0)
        np.testing.assert_array_equal(device.tasks["policy"].head.coef_, after)
        policy.rollback(0)
        assert not device.tasks["policy"].head.coef_.any()
        assert len(policy.decisions(waiting=True)) == 6
        policy.rollback(update.generation + 1)  # forward again: the rewards count again
        np.testing.assert_array_equal(device.tasks["policy"].head.coef_, after)
        assert policy.log().rewards.tolist() == [1.0, 1.0]
        with pytest.raises(ValueError, match="decision 1 has its reward already, 1"):
            device.reward(numbers[0], 0.0)


def test_going_back_to_either_branch_finds_the_rewards_that_it_learned(path):
    row = drawn(LABELS[:1], 3)[0]
    with opened(path) as device:
        policy = device.policy_of()
        decision = device.choose(row)
        first = device.reward(decision, 1.0).generation
        weights = device.tasks["policy"].head.coef_.copy()
        policy.undo()
        second = device.reward(decision, 0.25).generation
        assert policy.log().rewards.tolist() == [0.25]
        policy.rollback(first)
        np.testing.assert_array_equal(device.tasks["policy"].head.coef_, weights)
        assert policy.log().rewards.tolist() == [1.0]
        with pytest.raises(ValueError, match=f"already, 1 .generation {first}"):
            device.reward(decision, 1.0)  # which would count it twice
        policy.rollback(second)
        assert policy.log().rewards.tolist() == [0.25]


def test_decisions_are_read_while_another_process_chooses(path):
    bundle = Bundle.load(path)
    assert decisions_of(bundle) == []
    with opened(path) as device:
        made = device.choose(list(drawn(LABELS[:2], 3)))
        device.reward(made[0], 1.0)
        assert decisions_of(bundle) == device.policy_of().decisions()
        assert [d.reward for d in decisions_of(bundle)] == [1.0, None]


def test_a_file_from_before_policies_gets_one(path):
    with opened(path) as device:
        device.learn(drawn(LABELS[:1], 3)[0], LABELS[0], task="main")
        for table in ("decisions", "rewards"):
            device.learner._database.connection.execute(f"DROP TABLE {table}")
    assert decisions_of(Bundle.load(path)) == []
    assert log_of(Bundle.load(path)) == ("policy", None)
    with opened(path) as device:
        assert device.learner.generation == 1
        device.reward(device.choose(drawn(LABELS[:1], 3)[0]), 1.0)
    assert [d.reward for d in decisions_of(Bundle.load(path))] == [1.0]


@pytest.mark.parametrize("seed", [-1, 2.5, "1"])
def test_a_seed_that_nothing_can_be_drawn_by_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        LearningOptions(seed=seed)


def test_saved_policies_go_on_elsewhere(path, tmp_path):
    with opened(path) as device:
        lived(device, 60)
        device.save()
        moved = device.save(tmp_path / "moved.edgetl").path
        weights = device.tasks["policy"].head.coef_
    for place in (path, moved):
        bundle = Bundle.load(place)
        assert bundle.manifest.record("policy").head == "policy"
        np.testing.assert_allclose(bundle.fitted("policy").head.coef_, weights, rtol=1e-6)
    with opened(moved) as device:
        assert device.policy_of().decisions() == []  # the log stays where it was made
        assert lived(device, 60, seed=2).mean() > 0.7
    with opened(path) as device:
        assert len(device.policy_of().log().rewards) == 60
        device.policy_of().undo()


def test_old_decisions_make_room_and_say_so(path):
    rows = list(drawn([LABELS[i % 4] for i in range(9)], 3))
    with opened(path, decisions=4) as device:
        decisions = device.choose(rows)
        assert [d.number for d in device.policy_of().decisions()] == [6, 7, 8, 9]
        with pytest.raises(ValueError, match="decision 5 is kept no more: 4 are"):
            device.reward(decisions[4], 1)
        with pytest.raises(ValueError, match="no decision 10; the last one is 9"):
            device.reward(10, 1)
        device.reward(np.array([6, 7]), 1)  # as of a log's numbers
        device.reward(tuple(decisions[7:]), 1)
        assert device.choose(rows[0]).number == 10


def test_a_long_life_stays_bounded_and_keeps_what_was_undone_apart(path):
    with opened(path, decisions=30, history=5) as device:
        policy = device.policy_of()
        for turn in range(180):
            decision = device.choose(drawn([LABELS[turn % 4]], turn)[0])
            device.reward(decision, turn % 2)
            if turn % 50 == 40:
                policy.undo()
        assert len(policy.generations()) <= 5 + 129 + 5
        listed = policy.decisions()
        assert len(listed) == 30
        assert [d.number for d in listed if d.reward is None] == []
        expected = device.tasks["policy"].head.coef_
    with opened(path, decisions=30, history=5) as device:
        np.testing.assert_array_equal(device.policy_of()._head.coef_, expected)
        assert len(device.policy_of().log().rewards) == 30


def test_wrong_rewards_change_nothing(path):
    with opened(path) as device:
        one, two = device.choose(list(drawn(LABELS[:2], 3)))
        for given, reward, what in (
            (one, 1.5, "from 0 to 1, got 1.5"),
            (one, -0.1, "from 0 to 1, got -0.1"),
            (one, np.nan, "from 0 to 1, got nan"),
            ([one, one], 1, "named twice"),
            ([one, two], [1, 1, 1], "2 decisions have rewards of shape"),
            ([], 1, "no decision to reward"),
            (77, 1, "no decision 77; the last one is 2"),
            (2**80, 1, "no decision 1208925819614629174706176; the last one is 2"),
            (-1, 1, "no decision -1"),
        ):
            with pytest.raises(ValueError, match=what):
                device.reward(given, reward)
        assert len(device.policy_of().decisions(waiting=True)) == 2
        assert not device.tasks["policy"].head.coef_.any()
        with pytest.raises(ValueError, match="softmax head, which learns from labels"):
            device.choose(drawn(LABELS[:1], 3)[0], task="main")
    plain = Device(Bundle.load(path.parent / "plain" / "flowers.edgetl"), None)
    with pytest.raises(ValueError, match="the bundle has no policy; edgetl policy gives"):
        plain.choose(drawn(LABELS[:1], 3)[0])


def test_labels_are_rewards_of_every_action(path):
    row = drawn(LABELS[:1], 3)[0]
    with opened(path) as device:
        update = device.learn([row] * 3, "prune", task="policy")
        assert update.new_labels == ("prune",)
        assert device.tasks["policy"].answer(row[None])[0].label == "prune"
        decision = device.choose(row)
        device.policy_of().forget(decision.action)
        with pytest.raises(ValueError, match="was forgotten since"):
            device.reward(decision, 1)


def test_a_policy_starts_from_the_labels_that_a_bundle_keeps(tmp_path):
    plain = Bundle.load(save_bundle(tmp_path / "plain", "softmax"))
    path = with_policy(plain).save(tmp_path / "warm.edgetl").path
    names = [LABELS[i % 4] for i in range(80)]
    with opened(path) as device:
        decisions = device.choose(list(drawn(names, 7)))
        right = [d.action == name for d, name in zip(decisions, names, strict=True)]
        assert np.mean(right) > 0.8


def test_harmful_rewards_are_refused_where_samples_judge_them(tmp_path):
    names = [LABELS[i % 4] for i in range(60)]
    fitted = drawn(names, 0), np.arange(60) % 4
    judging = drawn(names, 1), np.arange(60) % 4
    head = PolicyHead(components=8)
    path = save_features(tmp_path, head, LABELS, fitted, judging)
    with opened(path) as device:
        decisions = device.choose(list(drawn(["daisy"] * 60, 8)))
        before = device.tasks["main"].head.coef_.copy()
        update = device.reward(decisions, [float(d.action != "daisy") for d in decisions])
        assert update.decision == "refused"
        np.testing.assert_array_equal(device.tasks["main"].head.coef_, before)
        assert len(device.policy_of().decisions(waiting=True)) == 60


def test_a_policy_is_no_head_update(path, tmp_path):
    with opened(path) as device:
        lived(device, 10)
        moved = device.save(tmp_path / "moved.edgetl").path
        device.save()
    with pytest.raises(ValueError, match="the rewards of its own device"):
        diff(path, moved, task="policy")


def test_only_one_process_chooses(path):
    with opened(path) as device:
        device.choose(drawn(LABELS[:1], 3)[0])
        with opened(path) as other, pytest.raises(StorageError, match="learns into"):
            other.choose(drawn(LABELS[:1], 3)[0])


def test_a_damaged_log_is_noticed(path):
    with opened(path) as device:
        decision = device.choose(drawn(LABELS[:1], 3)[0])
        connection = device.policy_of()._database.connection
        connection.execute("UPDATE decisions SET features=zeroblob(36)")
        with pytest.raises(CorruptError, match="checksum"):
            device.reward(decision, 1)


def test_bundles_refuse_what_makes_no_policy(tmp_path):
    plain = Bundle.load(save_bundle(tmp_path / "plain", "softmax"))
    for arguments, what in (
        ({"actions": ["one"]}, "at least 2 distinct labels"),
        ({"actions": ["one", "one"]}, "at least 2 distinct labels"),
        ({"actions": "both"}, "must be a list of names"),
        ({"actions": ["one", " "]}, "not empty"),
        ({"actions": ACTIONS, "name": "main"}, "a task 'main' already"),
        ({"actions": ACTIONS, "features": np.ones((3, DIM))}, "need 16 samples, there are 3"),
        ({"features": np.ones((30, DIM))}, "name the actions"),
    ):
        with pytest.raises(ValueError, match=what):
            with_policy(plain, **arguments)
    bare = Bundle.load(save_bundle(tmp_path / "bare", "softmax", learning=False))
    with pytest.raises(ValueError, match="need 16 samples, there are 0"):
        with_policy(bare, ACTIONS)
    assert isinstance(plain.head, SoftmaxHead)
    assert isinstance(Manifest.from_bytes((plain.path / "manifest.json").read_bytes()), Manifest)
