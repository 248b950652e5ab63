"""A trained run in a folder for others: plain weights, programs, a card for machines, one for people.

NETWORK.safetensors   a state dict as `load_state_dict` takes it; OTHERS has what belongs to no network
encoder.pt2, .onnx    programs (programs.py)
samples.png           samples, if the run keeps arrays
README.md             the model card (results/model_cards.py)
card.json             where all of it comes from, the layer tables, the metrics, each file's sha256

What the run's command named stands in both cards as it was typed, but its --out.
"""

import inspect
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import save
from torch import Tensor, nn

from alibench.benchmarks.config import blame, loading
from alibench.benchmarks.running import outputs, programs, sampling, trained
from alibench.benchmarks.running.answers import as_json
from alibench.benchmarks.running.programs import SIDES, Programs
from alibench.benchmarks.running.trained import TrainedRun
from alibench.evaluation import files, pictures
from alibench.evaluation.errors import BadInput
from alibench.models.base import Model
from alibench.models.layers import Stack
from alibench.results import model_cards, rows, stored
from alibench.results.model_cards import CARD, NOT_ASKED, OTHERS, PICTURE, README

VERSION = 1  # of the card


def export(run: TrainedRun, out: str | Path, torch_export: bool = False, onnx: bool = False) -> Path:
    """Write a run into the new folder `out`, whole or not at all, and return it.

    `torch_export` and `onnx` add encoder and decoder as programs. Raises BadInput for a place that is taken,
    for a damaged run, for a model that makes no program or another than itself, and without ONNX's packages.
    """
    # All that can be refused before the first file.
    path, asked = Path(out), Programs(torch_export, onnx)
    sampling.check_new(path, "--out", empty=True)
    metrics, model = _metrics(run), trained.model_of(run)
    outputs.check_apart(path, [run.origin["config"]["dataset"]])
    outputs.check_space(path, (1 + torch_export + onnx) * run.weights.stat().st_size)

    # The card comes last: it has the hashes of all others.
    with files.new_folder(path) as folder:
        states = by_network(model)
        for name, state in states.items():
            _write_state(files.child(folder, f"{name}.safetensors"), state)
        card = _card(run, model)
        card |= {"metrics": metrics, "programs": _write_programs(folder, run, asked)}
        _draw(folder, run)

        # README is the user's to edit, so it has no hash.
        card["files"] = {file.name: files.sha256(file, size=None) for file in sorted(folder.iterdir())}
        files.replace(folder / README, model_cards.markdown(card))
        files.replace(folder / CARD, as_json(card) + "\n")
    return path


# -------------------- weights and programs


def by_network(model: Model) -> dict[str, dict[str, Tensor]]:
    """Return the state dict of each network by its name; by OTHERS what belongs to none."""
    networks = dict(model.named_children())
    states = {name: network.state_dict() for name, network in networks.items()}
    whole = model.state_dict()
    states[OTHERS] = {key: whole[key] for key in whole if key.partition(".")[0] not in networks}
    return {name: state for name, state in states.items() if state}


def _write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict. Raises OSError."""
    # safetensors refuses tensors that share memory
    files.replace(path, save({key: tensor.clone().contiguous() for key, tensor in state.items()}))


def _write_programs(folder: Path, run: TrainedRun, asked: Programs) -> dict[str, Any]:
    """Write the programs of both sides; return what the card says of each. Raises BadInput, or OSError."""
    about: dict[str, Any] = {}
    for side in SIDES:
        # a model for each, since it is taken apart
        model = trained.model_of(run)
        if reason := programs.absent(model, side):
            about[side] = {"absent": reason}
        elif asked.torch_export or asked.onnx:
            differences = programs.write(folder, run, model, side, asked)
            about[side] = {"tolerance": programs.TOLERANCE, "differences": differences}
        else:
            about[side] = {"absent": NOT_ASKED}
    return about


def _draw(folder: Path, run: TrainedRun) -> None:
    """Draw samples of images, or a run on points, if the run keeps arrays. Raises BadInput, or OSError."""
    place = run.weights.parent
    try:
        arrays = pictures.read(place)
        # no held-out image of the user's among them
        if arrays["x"].ndim == 4 and "samples" in arrays:
            files.replace(folder / PICTURE, sampling.square(arrays["samples"]))
        elif arrays["x"].ndim == 2:
            from alibench.results import figures  # matplotlib takes a moment to import

            figures.draw(place, run.origin["title"], folder / PICTURE)
    except FileNotFoundError:
        return
    except files.Damaged as damage:
        raise BadInput(f"{damage}: evaluate this run again") from None


# -------------------- what the card says


def _metrics(run: TrainedRun) -> list[dict[str, Any]]:
    """Return the run's numbers as the card has them; none, if it was not evaluated. Raises BadInput."""
    place = run.weights.parent
    if not os.path.lexists(place / stored.ROWS):
        return []
    try:
        measured = stored.read_run(place, run.origin["suite"], run.origin["run_id"])
    except files.Damaged as damage:
        raise BadInput(str(damage)) from None
    return model_cards.averaged([row for row in measured if row["model"] == run.origin["model"]])


def _card(run: TrainedRun, model: Model) -> dict[str, Any]:
    """Return what is known of a run before anything is measured of its files."""
    kind, origin = type(model), run.origin
    # older files lack some of it
    suite, recipe = loading.of_run(origin), origin["config"].get("entry_recipe")
    if not isinstance(recipe, dict):
        recipe = asdict(suite.recipe_of(origin["model"], origin["seed"]))
    hashes = {Path(name).name: sha256 for name, sha256 in origin.get("plugins", {}).items()}
    file = Path(inspect.getfile(kind))
    classes = {"file": file.name, "file_sha256": files.sha256(file), "is_users": kind in blame.PLACES}
    return {
        "version": VERSION,
        # where its user keeps plug-ins and outputs is nobody's business
        "run": {
            **origin,
            "plugins": hashes,
            "data_splits": origin.get("data_splits", ""),
            "command": rows.anew(shlex.split(origin["command"])),
        },
        "model": {
            "source": model.source,
            "options": suite.entry(origin["model"]).options,
            "recipe": recipe,
            **classes,
            "generative": model.generative,
            "encodes": model.inference != "none",
            "inverts": model.inverts,
            "conditional": model.conditional,
            "attributes": run.attributes,
        },
        "networks": {name: _described(network) for name, network in model.named_children()},
    }


def _described(network: nn.Module) -> dict[str, Any]:
    """Return what a network is built from: class, plain attributes, the table of each stack of layers."""
    parts = network.named_modules()
    stacks = {name: part for name, part in parts if isinstance(part, Stack) and len(part.layers)}
    return {
        "class": f"{type(network).__module__}.{type(network).__qualname__}",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "settings": _plain(network),
        "tables": {
            name: {
                "input": stack.shape,
                "rows": [layer.row for layer in stack.layers],
                "style": stack.layers[0].style,
            }
            for name, stack in stacks.items()
        },
    }


def _plain(network: nn.Module) -> dict[str, Any]:
    """Return a network's attributes that JSON can hold."""
    # neither what torch keeps in each module nor what is not plain
    settings = {}
    for name, value in vars(network).items():
        if not name.startswith("_") and name != "training":
            with suppress(TypeError):
                settings[name] = msgspec.to_builtins(value)
    return settings
