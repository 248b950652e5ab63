"""Trained models as runs leave them: kept, found in a folder, loaded. Nothing that is loaded can run code.

A run's folder has `model.safetensors`, the weights alone; `training.json`, what else the training left and
the weights' hash, so that an interrupted evaluation needs no training; and `curves.csv`, a line a tick.
"""

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from alibench.benchmarks.config import loading, schema
from alibench.benchmarks.config.plugins import check_model
from alibench.benchmarks.data.published import PUBLISHED
from alibench.benchmarks.training.outcomes import Diverged, Trained
from alibench.evaluation import files, sealed
from alibench.evaluation.errors import BadInput
from alibench.models import REGISTRY
from alibench.models.base import Model
from alibench.results import stored

WEIGHTS, TRAINING = "model.safetensors", "training.json"  # in a run's folder
VERSION = 1  # of the files
AS_GIVEN = "as given"  # the weights of a model that was trained elsewhere


class Kept(msgspec.Struct):
    """The contents of `training.json`: what a training left with its weights' hash, or how it diverged."""

    weights_sha256: files.Sha256 = ""
    left: Trained | None = None
    diverged: str | None = None


def keep(folder: Path, model: Model, outcome: Trained | Diverged) -> None:
    """Write what a training left; `training.json` last, so that with it all is there. Raises OSError."""
    if isinstance(outcome, Diverged):
        sealed.write_json(folder / TRAINING, "training", VERSION, {"diverged": str(outcome)})
        return
    sealed.write_tensors(folder / WEIGHTS, "model", VERSION, model.state_dict())

    # Phases have columns of their own.
    names = list(dict.fromkeys(name for record in outcome.curves for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(outcome.curves)
    files.replace(folder / stored.CURVES, text.getvalue())

    left = {"weights_sha256": files.sha256(folder / WEIGHTS), "left": msgspec.to_builtins(outcome)}
    sealed.write_json(folder / TRAINING, "training", VERSION, left)


def kept(folder: Path) -> Trained | Diverged | None:
    """Return what the training of a run left, None if it has not ended. Raises files.Damaged."""
    if not (folder / TRAINING).exists():
        return None
    contents = sealed.read_json(folder / TRAINING, "training", VERSION, Kept)
    if contents.get("diverged") is not None:
        return Diverged(contents["diverged"])
    if "left" not in contents:
        raise files.Damaged(f"{folder / TRAINING} does not say what the training left")

    # The weights must be those of this training.
    try:
        intact = files.sha256(folder / WEIGHTS, links=False) == contents["weights_sha256"]
    except OSError as error:
        raise files.Damaged(f"{folder / WEIGHTS} cannot be read ({error.strerror})") from None
    if not intact:
        raise files.Damaged(f"{folder / WEIGHTS} is damaged")
    return Trained(**contents["left"])


def weights(path: Path) -> dict[str, Tensor]:
    """Return a trained model's tensors. Raises files.Damaged, or OSError."""
    return sealed.read_tensors(path, "model", VERSION)[0]


@dataclass(frozen=True)
class TrainedRun:
    """A trained and evaluated run."""

    origin: dict[str, Any]  # its run.json
    weights: Path

    @property
    def attributes(self) -> bool:
        """Whether the labels of its data are binary attributes rather than classes."""
        dataset = self.origin["config"]["dataset"]
        return dataset in PUBLISHED and bool(PUBLISHED[dataset].attributes)


def find(folder: Path) -> list[TrainedRun]:
    """Return the trained runs below a command's folder, or the one in its own folder.

    Raises BadInput if there are none, or damaged ones.
    """
    single = os.path.lexists(folder / stored.ORIGIN)
    places = [folder] if single else stored.run_folders(folder)
    trained = [
        place for place in places if all(os.path.lexists(place / file) for file in (WEIGHTS, stored.ORIGIN))
    ]
    if not trained:
        if single:
            _check_kept(folder)
        raise BadInput(
            f"{folder} holds no trained runs ({WEIGHTS}): name a folder that 'alibench run --out' made"
        )
    return [_read(place, named=not single) for place in trained]


def _check_kept(place: Path) -> None:
    """Refuse a run of a model that was trained elsewhere, whose weights are its owner's. Raises BadInput."""
    try:
        origin = stored.read_origin(place, named=False)
    except files.Damaged as problem:
        raise BadInput(str(problem)) from None
    if origin["weights"] == AS_GIVEN:
        raise BadInput(
            f"{origin['run_id']}: no weights are kept of {origin['title']}: name a run that is trained"
        )


def _read(place: Path, named: bool) -> TrainedRun:
    """Read a run, in a folder that is `named` by it or in any. Raises BadInput."""
    try:
        run = TrainedRun(stored.read_origin(place, named), place / WEIGHTS)
        intact = files.sha256(run.weights, links=False) == run.origin["weights_sha256"]
    except (files.Damaged, OSError) as problem:
        raise BadInput(str(problem)) from None
    if not intact or run.origin["seed"] is None:
        raise BadInput(
            f"{place} is damaged: its weights are not those that run.json names; run this run again"
        )
    return run


def fill(model: Model, path: Path) -> None:
    """Give a model its trained weights. Raises BadInput if they are damaged, or another model's."""
    try:
        model.load_state_dict(weights(path))
    except (files.Damaged, OSError) as error:
        raise BadInput(str(error)) from None
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise BadInput(f"{path} does not fit the model of this version ({line[:200]})") from None


def only(folder: Path) -> TrainedRun:
    """Return the trained run below a command's folder, or in its own. Raises BadInput, also for several."""
    runs = find(folder)
    if len(runs) > 1:
        names = ", ".join(run.weights.parent.name for run in runs)
        raise BadInput(
            f"{folder} holds {len(runs)} trained runs: name one of them by {folder}/runs/RUN; "
            f"there are: {names}"
        )
    return runs[0]


def model_of(run: TrainedRun, device: str | torch.device = "cpu") -> Model:
    """Return a run's model as it was evaluated, without gradients. Raises BadInput."""
    model = untrained(run.origin, run.weights.parent)
    fill(model, run.weights)
    return model.to(device).eval().requires_grad_(False)


def untrained(origin: Mapping[str, Any], place: Path) -> Model:
    """Return the model of a run.json with first weights; `place` is named in messages. Raises BadInput."""
    # The model may be a plug-in's that is not loaded.
    suite = loading.of_run(origin)
    known_as = suite.model.get(origin["model"], schema.Entry()).of or origin["model"]
    check_model(known_as, REGISTRY, f"{place}: unknown model")

    # Networks depend on what the data were like, and not on the data.
    shape, scale, labels = (origin.get(f"data_{name}") for name in ("shape", "scale", "labels"))
    if shape is None or scale is None or labels is None:
        raise BadInput(f"{place} does not say what its data were like: run this run again")
    return suite.build_for(tuple(shape), scale, labels, origin["model"], origin["seed"])
