"""BiGAN's training on MNIST next to the log of its authors' code: `nox -s official_log -- DIR [DIR ...]`.

Each DIR is an output of suite `mnist_bigan` or `mnist_bigan_log`. What the log has (jeffdonahue/bigan,
README) is computed for each of their BiGANs on the 10,000 validation images, as there. The table of both goes
to results/reference/mnist_bigan/log.csv; `nox -s pictures` draws it.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from alibench.benchmarks.config import loading
from alibench.benchmarks.running import trained
from alibench.evaluation import files, representation
from alibench.evaluation.data import as_float
from alibench.evaluation.metrics import neighbours
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.models.bigan import BiGAN
from alibench.results import formats, stored
from alibench.results.illustrations import LOG
from alibench.results.published import published

EPOCH = 390  # updates
ENDING = 0.1  # share of a training whose losses are averaged: a tick of the curves is one batch
SOURCE = "BiGAN official repo log"
# metrics of the log, as published.csv names them
LOSS_OF_D = "loss of D, mean of its two terms"
LOSS_OF_OTHERS = "loss of E and G, mean of its two terms"
HIDDEN, CODE = "1-NN accuracy % on last hidden layer of E", "1-NN accuracy % on E(x)"
DISTANCE = "mean L2 norm of x-G(E(x))"


def losses(curves: pd.DataFrame) -> dict[str, float]:
    """Return the losses at the end of a training, from its curves. The log has means of two terms."""
    ending = curves[curves.step > (1 - ENDING) * curves.step.max()]
    return {
        LOSS_OF_D: float(ending["loss discriminator"].mean()) / 2,
        LOSS_OF_OTHERS: float(ending["loss generator"].mean()) / 2,
    }


def distances(subject: Subject) -> dict[str, float]:
    """Return the accuracies of one neighbour on hidden layer and code, and the mean |x - G(E(x))|."""
    encoder = subject.model.encoder

    def layers(x: Tensor) -> dict[str, Tensor]:
        *_, hidden = encoder.hidden(x).values()
        return {representation.HIDDEN: hidden, "code": encoder.raw(x)}  # before it is squashed, as there

    sets = representation.sets(layers, subject.data, subject.settings, subject.split, subject.device)
    code = slice(sets.hidden.stop, None)
    on_hidden, on_code = (
        neighbours.accuracies(replace(sets, hidden=part).last_hidden(), [1], sets.draws[0])[0]
        for part in (sets.hidden, code)
    )
    away = (as_float(subject.held_out.x) - subject.reconstructions).flatten(1).norm(dim=1)
    return {HIDDEN: on_hidden, CODE: on_code, DISTANCE: float(away.mean())}


def of_run(folder: Path) -> dict[str, float]:
    """Return the log's numbers of one trained BiGAN. Raises BadInput, or files.Damaged."""
    origin = stored.read_origin(folder)
    data, settings = loading.of_run(origin).load(), Settings(labels="all")
    subject = Subject(trained.model_of(trained.only(folder)), data, settings, origin["seed"], "validation")
    return {**losses(stored.read_curves(folder, origin)), **distances(subject)}


def beside(numbers: Mapping[int, Mapping[str, float]]) -> pd.DataFrame:
    """Return a line for each epoch and metric: the log's number, and ours, by epoch, where there is one."""
    log = published()
    log = log[(log.source == SOURCE) & log.metric.isin([LOSS_OF_D, LOSS_OF_OTHERS, HIDDEN, CODE, DISTANCE])]
    epochs = log.table.str.removeprefix("README epoch ").astype(int)
    here = [
        numbers.get(epoch, {}).get(metric, np.nan) for epoch, metric in zip(epochs, log.metric, strict=True)
    ]
    columns = {"epoch": epochs, "metric": log.metric, "published": log.value, "here": here}
    return pd.DataFrame(columns).sort_values(["metric", "epoch"], ignore_index=True)


def bigans(folders: list[Path]) -> dict[int, Path]:
    """Return the runs of a BiGAN in outputs, by epoch: of several the first. Raises BadInput."""
    found: dict[int, Path] = {}
    for run in (run for folder in folders for run in stored.finished(folder)):
        origin = stored.read_origin(run)
        # references and measurements of speed have no step
        if origin["step"] and loading.of_run(origin).kind(origin["model"]) is BiGAN:
            found.setdefault(origin["step"] // EPOCH, run)
    return found


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    folders = parser.parse_args().folders
    table = beside({epoch: of_run(run) for epoch, run in bigans(folders).items()})
    print(table.to_string(index=False))
    LOG.parent.mkdir(parents=True, exist_ok=True)
    files.replace(LOG, formats.csv(table, index=False))


if __name__ == "__main__":
    main()
