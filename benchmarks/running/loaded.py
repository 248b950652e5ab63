"""The trained model of a run, as scripts and notebooks load it."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alibench.benchmarks.config import classes
from alibench.benchmarks.config import plugins as user_models
from alibench.benchmarks.running import exporting, trained
from alibench.models.base import Model


def load_run(
    folder: str | Path,
    device: str | torch.device = "cpu",
    plugins: Iterable[str | Path] = (),
    models: Iterable[Any] = (),
) -> Model:
    """Return the trained model of a run: `load_run("DIR/runs/RUN")`, or `load_run("DIR")` if DIR has one run.

    It needs no dataset, gives no gradients and is as it was evaluated (models/base.py says what it can do):

        model, rng = load_run("DIR/runs/digits-ali-seed0"), torch.Generator().manual_seed(0)
        x = model.sample(16, rng)  # (16, C, H, W) in [0, 1], or (16, D)
        z, again = model.encode(x), model.reconstruct(x)  # (16, latent), mean codes; (16, C, H, W)
        model.export("digits-ali")  # a new folder for others: weights, card.json, README.md (exporting.py)

    plugins: files with models of the user's. models: classes of such models that are in no file.
    Raises BadInput for a folder without a run, with several, with a damaged one, or with an unknown model.
    """
    for plugin in plugins:
        user_models.load(plugin)
    run = trained.only(Path(folder))
    with user_models.meanwhile():
        classes.adopt(models)
        model = trained.model_of(run, device)
    # of the run, whatever is done to the model meanwhile
    model.export = partial(exporting.export, run)
    return model
