"""Real mistakes, planted in training and evaluation, to see whether the regression gate finds them.

Each is planted in fresh processes that train some seeds with it. The numbers of entries that a mistake does
not touch are the same as without it, and are taken from the pool.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import compress
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import softplus

from alibench.benchmarks.config import loading, schema
from alibench.benchmarks.running import local
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.interpreters import inherited
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import Outcome
from alibench.benchmarks.training import average, trainer
from alibench.evaluation import representation
from alibench.models import REGISTRY, games
from alibench.models.ali import ALI
from alibench.models.base import Batch, Model
from alibench.results import baseline, formats, gate
from alibench.results.baseline import Baseline

CURRENT = 5  # seeds of a decision


# -------------------- the mistakes: each replaces a part of training or evaluation in this process
def _wrong_sign() -> None:
    right = games.joint

    def joint(q: Tensor, p: Tensor) -> dict[str, Tensor]:
        return right(q, p) | {"generator": softplus(-p) - softplus(q)}

    games.joint = joint


def _detached() -> None:
    right = ALI.pairs

    def pairs(self: ALI, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        both = right(self, batch)
        x, z = both["q"]
        return both | {"q": (x, z.detach() + 0 * z)}

    ALI.pairs = pairs  # type: ignore[method-assign]


def _noise(change: Callable[[str, Tensor], Tensor]) -> None:
    """Change the noise of every batch: `change` gets a name and what was drawn."""
    right = trainer.Trainer.batch

    def batch(self: trainer.Trainer, picked: Sequence[Tensor] | None = None) -> Batch:
        drawn = right(self, picked)
        return replace(drawn, noise={name: change(name, value) for name, value in drawn.noise.items()})

    trainer.Trainer.batch = batch  # type: ignore[method-assign]


def _no_noise() -> None:
    _noise(lambda name, drawn: 0 * drawn if name == "eps" else drawn)


def _one_code() -> None:
    _noise(lambda name, drawn: drawn[:1].expand_as(drawn) if name == "z" else drawn)


def _shuffled_labels() -> None:
    right = representation.sets

    def shuffled(*arguments: object) -> representation.Sets:
        sets = right(*arguments)  # type: ignore[arg-type]
        x, y = sets.labelled
        return replace(sets, labelled=(x, np.random.default_rng(0).permutation(y)))

    representation.sets = shuffled  # type: ignore[assignment]


def _raw_decoder() -> None:
    first = average.Average.__init__

    def start(self: average.Average, model: Model, decay: float) -> None:
        first(self, model, decay)
        decoder = {tensor.data_ptr() for tensor in model.decoder.state_dict().values()}
        # The planted mistake: the decoder's weights are left out of the average.
        kept = [tensor.data_ptr() not in decoder for tensor in self.tensors]
        self.tensors, self.mean = ([*compress(tensors, kept)] for tensors in (self.tensors, self.mean))

    average.Average.__init__ = start  # type: ignore[method-assign]


@dataclass(frozen=True)
class Bug:
    """A mistake, the models whose numbers it changes, and how many of the five seeds have it."""

    what: str
    plant: Callable[[], None]
    touches: Callable[[type[Model]], bool]
    seeds: int = CURRENT

    def models(self, suite: schema.Suite) -> list[str]:
        """Return the entries of a suite that it changes."""
        return [name for name in suite.models if self.touches(REGISTRY[suite.entry(name).of])]


def _plays_on_pairs(kind: type[Model]) -> bool:
    return issubclass(kind, ALI)


BUGS = {
    "wrong-sign": Bug("the encoder's loss with the wrong sign", _wrong_sign, _plays_on_pairs),
    "detached": Bug("the encoder detached from the game", _detached, _plays_on_pairs),
    "no-noise": Bug("no reparametrisation noise", _no_noise, lambda kind: kind.stochastic),
    "shuffled-labels": Bug("labels shuffled in the SVM", _shuffled_labels, lambda kind: True),
    "raw-decoder": Bug("decoder weights from before the average", _raw_decoder, lambda kind: True),
    "one-collapsed": Bug("one seed in five collapsed", _one_code, lambda kind: not kind.likelihood, seeds=1),
}


# -------------------- training with them
def _start_worker(bug: str) -> None:
    torch.set_num_threads(1)
    BUGS[bug].plant()


def _work(job: Job) -> Outcome:
    return execute([job], lambda run_id, steps: None)[job.run_id]


def _train(suite: schema.Suite, name: str, seeds: Sequence[int], out: Path) -> None:
    """Train and evaluate the entries that a mistake changes, in processes that have it."""
    suite = replace(suite, first_seed=seeds[0], seeds=len(seeds))
    (out / "runs").mkdir(parents=True)
    entries, command = BUGS[name].models(suite), ("study",)
    work = [Job("run", suite, entry, seed, out, "cpu", command) for seed in seeds for entry in entries]
    # fresh processes: a mistake cannot be taken back
    context, count = get_context("spawn"), local.workers(torch.device("cpu"))
    with inherited({}), ProcessPoolExecutor(count, context, _start_worker, (name,)) as workers:
        list(workers.map(_work, work))


def _line(bug: Bug, suite: schema.Suite, name: str, committed: Baseline, pool: Baseline) -> dict[str, str]:
    """Return what the gate finds of one mistake, in as many seeds of the pool as the mistake has."""
    seeds, touched = pool.seeds[:CURRENT], bug.models(suite)
    with TemporaryDirectory() as folder:
        out = Path(folder) / name
        _train(suite, name, seeds[: bug.seeds], out)
        trained = baseline.collect(out, suite.name, suite.gate, suite.models)

    # Numbers with the mistake in place of the pool's.
    planted = {c.key: c.by_seed for c in trained.cells if len(c.numbers) or c.model in touched}
    current = [replace(c, by_seed={**c.by_seed, **planted.get(c.key, {})}) for c in pool.of(seeds)]
    # The cells that fail, the most certain first.
    failed = [finding for finding in gate.judge(committed.cells, current) if finding.failed]
    failed.sort(key=lambda finding: -abs(finding.errors))
    first = []
    for finding in failed[:3]:
        far = f"{finding.errors:+.0f} SE" if math.isfinite(finding.errors) else finding.moved
        first.append(f"{finding.cell.title}, {finding.cell.name} ({finding.verdict}, {far})")
    return {
        "mistake": bug.what,
        "planted in": ", ".join(touched),
        "caught": "yes" if failed else "NO",
        "cells that fail": f"{len(failed)} of {len(current)}",
        "the first, by standard errors": "; ".join(first),
    }


def report(console: Console, committed: Baseline, pool: Baseline) -> str:
    """Return what the gate finds of each planted mistake, as Markdown."""
    seeds, lines = pool.seeds[:CURRENT], []
    (suite,) = loading.load(committed.suite)
    for name, bug in BUGS.items():
        console.print(f"{bug.what} ...", highlight=False)
        lines.append(_line(bug, suite, name, committed, pool))

    # The same decision without any mistake.
    unchanged = any(finding.failed for finding in gate.judge(committed.cells, pool.of(seeds)))
    parts = [
        "# Planted mistakes",
        f"Suite `{suite.name}`, seeds {seeds[0]} to {seeds[-1]}, against the baseline of "
        f"{len(committed.seeds)}. The same seeds without any mistake: {'failed' if unchanged else 'passed'}. "
        "By `nox -s gate_study -- bugs`.",
        formats.table(pd.DataFrame(lines).set_index("mistake")),
    ]
    return "\n\n".join(parts) + "\n"
