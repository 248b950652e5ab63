"""A command that is killed at any moment and resumed ends as an undisturbed one."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.trial import KINDS, LIMIT, Trial, Undisturbed, asked

pytestmark = pytest.mark.faults


def test_killed_at_random_moments_and_resumed(
    undisturbed: Undisturbed, images: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = random.randrange(10**6)
    rng, kills = random.Random(seed), asked(request, "--kills", 30, 2)
    print(f"\nseed {seed}; undisturbed it takes {undisturbed.seconds:.1f} s and writes {undisturbed.written}")

    kinds = [*KINDS, "checkpointing", *["at any time"] * 3]
    done = dict.fromkeys(kinds, 0)
    rng.shuffle(kinds)
    for number in range(kills):
        kind, trial = kinds[number % len(kinds)], Trial(tmp_path / str(number), images)
        if kind == "at any time":
            process = trial.start()
            time.sleep(rng.uniform(0.2, 0.9) * undisturbed.seconds)
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process = trial.start(kill=("all", KINDS[kind], rng.randint(1, undisturbed.written[kind])))

        code = process.wait(LIMIT)
        assert code in (-signal.SIGKILL, *[0] * (kind not in KINDS)), (kind, trial.said[-3000:])
        trial.check(undisturbed.rows)
        done[kind] += 1
        how = f"killed {'while ' * (kind in KINDS)}{kind}" if code else "too late to be killed"
        print(f"{number + 1} of {kills}: {how}: the same {len(undisturbed.rows)} rows")
    print(done)
