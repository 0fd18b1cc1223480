"""A device that is killed while it chooses and is rewarded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_rewards import ACTIONS, opened, policy_bundle

from edgetl.bundle import Bundle
from edgetl.heads import PolicyHead

CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_rewards import LABELS, drawn, opened
rows = drawn([LABELS[i % 4] for i in range(40)], 3)
with opened(sys.argv[2], decisions=5000) as device:
    turn = 0
    while True:
        decisions = device.choose(list(rows[turn % 30 : turn % 30 + 3]))
        device.reward(decisions[:2], [(turn % 5) / 4, 0.5])
        os.write(1, b"%d\\n" % decisions[1].number)
        turn += 1
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_while_it_chooses_and_learns(tmp_path):
    """Every reward that was answered is there once, and the head is what the log makes of it."""
    path, last = policy_bundle(tmp_path), 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(path)],
            cwd=sys.prefix,  # not the checkout, whose uncompiled package would come first
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        for _ in range(25):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().splitlines()
        last = int(rest[-1]) if rest and rest[-1].isdigit() and child.wait() else last
        child.wait()
        child.stdout.close()
        with opened(path, decisions=5000) as device:
            policy = device.policy_of()
            log, head = policy.log(), policy._head
            decided = policy.decisions()
        assert log.numbers[-1] >= last
        assert [d.number for d in decided] == list(range(1, len(decided) + 1))
        fresh = Bundle.load(path).fitted("policy")
        again = PolicyHead.from_arrays(fresh.head.exact_arrays())
        again.restore_learning(fresh.learning.statistics)
        codes = np.array([ACTIONS.index(action) for action in log.actions])
        again.reward(log.features.astype(np.float32), codes, log.rewards)
        np.testing.assert_allclose(head.coef_, again.coef_, rtol=1e-6, atol=1e-9)
    assert len(log.numbers) >= 150
