"""A model's card in the report: its pictures, and which of them are missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alibench.evaluation import files, pictures
from alibench.models import REGISTRY
from alibench.results import drawing, figures, pixels, stored
from alibench.results.pixels import Picture

CURVES = 50  # seeds of a model whose curves are drawn: no browser opens a page with thousands
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """A picture of a model: of pixels, of frames one below the other, or drawn."""

    alt: str
    caption: str
    picture: Picture | None = None
    drawing: str = ""
    shape: str = "square"  # or "broad"
    steps: int = 0  # frames that a slider moves through
    start: Picture | None = None  # images that the lines begin and end at
    end: Picture | None = None


@dataclass
class Card:
    """A model of one output."""

    label: str  # of the output
    title: str
    about: str
    alarms: str
    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def card(
    label: str, folder: Path, rows: pd.DataFrame, origins: Mapping[str, Mapping[str, Any]]
) -> tuple[Card, list[str]]:
    """Return the card of a model by its rows in a suite, and what of its runs in `folder` cannot be read."""
    row, runs = rows.iloc[0], rows.drop_duplicates("run_id")
    folders = {int(seed): folder / "runs" / run for seed, run in zip(runs.seed, runs.run_id, strict=True)}
    # Alarms of the health metric, by seed.
    alarms = rows[(rows.metric == "alarms") & (rows.reason != "")]
    named = [f"seed {seed}: {reason}" for seed, reason in zip(alarms.seed, alarms.reason, strict=True)]
    made = Card(label, str(row.title), "", "; ".join(named))

    # Pictures are of the first seed that has them.
    key, problems = f"{label} {row.suite} {row.model}", []
    shown = next((seed for seed, place in folders.items() if (place / pictures.NAME).exists()), None)
    if shown is None:
        remedy = "'alibench evaluate' makes them from a trained run"
        made.problems.append(f"No arrays are kept of it ({pictures.NAME}): {remedy}.")
    else:
        place = folders[shown]
        problems += _add_pictures(made, place, origins[place.name], key)
    curves, unread = _curves(made.title, folders, origins, key)
    made.figures += curves

    # A line about it: source, seeds, length of training.
    config = origins[row.run_id]["config"]
    kind = config.get("model", {}).get(row.model, {}).get("of") or row.model
    steps = rows.step.dropna().unique()
    parts = (
        REGISTRY[kind].source if kind in REGISTRY else "",
        f"{len(folders)} seed{'s' * (len(folders) != 1)}",
        f"{' or '.join(f'{step:,}' for step in steps)} updates" if len(steps) else "",
        "" if shown is None else f"pictures of seed {shown}",
    )
    made.about = " · ".join(filter(None, parts))
    return made, [*problems, *unread]


def _add_pictures(card: Card, folder: Path, origin: Mapping[str, Any], key: str) -> list[str]:
    """Add what the arrays of a run show to a card; return their problems."""
    path, problems = folder / pictures.NAME, list[str]()
    try:
        arrays = pictures.read(folder)
        if arrays["x"].ndim == 4:
            latent = _latent(card.title, arrays, origin.get("data_classes", ()), key)
            card.figures += [*_images(card.title, arrays), *latent]
            problems += _add_extremes(card, arrays, folder, origin, key)
        else:
            card.figures += [*_points(card.title, arrays, key)]
    except (files.Damaged, OSError, KeyError) as damage:
        card.problems.append("Its pictures are missing, see above.")
        said = f"{path} lacks {damage}" if isinstance(damage, KeyError) else str(damage)
        return [f"{said}: no pictures of {card.title}; evaluate this run again"]

    # arrays of an earlier version
    if "interpolations" not in arrays and "reconstructions" in arrays:
        remedy = "an earlier version evaluated this run; 'alibench evaluate' adds them"
        card.problems.append(f"No interpolations: {remedy}.")
    return problems


def _add_extremes(card: Card, arrays: Arrays, folder: Path, origin: Mapping[str, Any], key: str) -> list[str]:
    """Add the worst and the best reconstructions to a card, if they were kept; return what is wrong."""
    if origin.get("per_image_sha256") is None:
        return []
    try:
        errors = stored.read_per_image(folder, origin).error.to_numpy()
        chosen = pictures.extremes(errors)
        if len(arrays.get("extremes", ())) != len(chosen):
            raise files.Damaged(f"{folder / pictures.NAME} shows other images than {stored.PER_IMAGE} names")
    except files.Damaged as problem:
        remedy = "evaluate this run again with --per-image"
        return [f"{problem}: no worst and best reconstructions of {card.title}; {remedy}"]

    # of a single image there is no best and worst
    if len(chosen):
        each, drawn = len(chosen) // 2, figures.extremes(arrays, errors[chosen])
        caption = (
            f"The {each} worst and the {each} best of {len(errors):,} held-out images, each above its "
            f"reconstruction; beneath it the squared error per pixel. All are in {stored.PER_IMAGE}."
        )
        alt = f"worst and best reconstructions of {card.title}"
        text = drawing.svg(drawn, f"extremes {key}")
        card.figures.append(Figure(alt, caption, drawing=text, shape="broad"))
    return []


def _images(title: str, arrays: Arrays) -> Iterator[Figure]:
    if "samples" in arrays:
        n, picture = len(arrays["samples"]), pixels.picture(pixels.tile(arrays["samples"], 10))
        yield Figure(f"{n} samples of {title} in a grid", f"{n} samples, the first of the seed.", picture)

    if "reconstructions" in arrays:
        picture = pixels.picture(pixels.tile(pixels.pairs(arrays), 10))
        caption = "Pairs of a held-out image and, to the right of it, its reconstruction."
        yield Figure(f"originals and reconstructions of {title} in pairs", caption, picture)

    if "interpolations" in arrays:
        lines, steps = arrays["interpolations"].shape[:2]
        start = end = None
        caption = "Decoded from the straight line between two draws of the prior."
        if "reconstructions" in arrays:
            # every line begins at one image and ends at the next
            ends = arrays["x"][: 2 * lines].reshape(lines, 2, *arrays["x"].shape[1:])
            start, end = (pixels.picture(pixels.tile(ends[:, side], lines)) for side in range(2))
            images = "two held-out images, the one above and the one below"
            caption = f"Decoded from the straight line between the codes of {images}."
        picture = pixels.frames(arrays["interpolations"])
        yield Figure(_walk(title, steps), caption, picture, steps=steps, start=start, end=end)


def _walk(title: str, steps: int) -> str:
    return f"interpolations of {title} in the latent space, {steps} steps"


def _latent(title: str, arrays: Arrays, names: Sequence[str], key: str) -> Iterator[Figure]:
    if "latent" in arrays:
        figure, axes = figures.latent(arrays["latent"], arrays["latent_y"], names)
        caption = f"Mean codes of {len(arrays['latent'])} held-out images by class, on {axes}."
        alt = f"latent space of {title}, coloured by class"
        yield Figure(alt, caption, drawing=drawing.svg(figure, f"latent {key}"), shape="broad")


def _points(title: str, arrays: Arrays, key: str) -> Iterator[Figure]:
    drawn = drawing.svg(figures.plane(arrays, across=2, size=2.4), f"plane {key}")
    alt = f"held-out points, codes, reconstructions and samples of {title} in the plane"
    yield Figure(
        alt, "Held-out data, codes and reconstructions have the colour of their mode.", drawing=drawn
    )

    if "interpolations" in arrays:
        steps = arrays["interpolations"].shape[1]
        ends = "codes of two held-out points" if "codes" in arrays else "two draws of the prior"
        caption = f"Each point is decoded from the straight line between the {ends}; grey: held-out data."
        yield Figure(_walk(title, steps), caption, figures.walk(arrays), steps=steps)


def _curves(
    title: str, folders: Mapping[int, Path], origins: Mapping[str, Mapping[str, Any]], key: str
) -> tuple[list[Figure], list[str]]:
    """Return the figure of the first CURVES seeds' curves, if there are any, and what cannot be read."""
    problems: list[str] = []

    def readable() -> Iterator[tuple[int, pd.DataFrame]]:
        columns: set[str] = set()
        for seed, folder in folders.items():
            try:
                frame = stored.read_curves(folder, origins[folder.name])
                if columns and set(frame.columns) != columns:
                    path = folder / stored.CURVES
                    raise files.Damaged(f"{path} has other columns than those of another seed")
            except FileNotFoundError:  # rows may be kept without curves
                continue
            except (files.Damaged, OSError) as problem:
                problems.append(f"{problem}: no curves of seed {seed}")
                continue
            columns = set(frame.columns)
            yield seed, frame

    by_seed = dict(islice(readable(), CURVES))
    # the caption says how many seeds are drawn
    if not by_seed:
        return [], problems
    seeds = f"{len(by_seed)} seeds, a line each" if len(by_seed) > 1 else f"seed {next(iter(by_seed))}"
    seeds = f"the first {seeds}" if len(by_seed) == CURVES < len(folders) else seeds
    plays = any(name.startswith("logit ") for frame in by_seed.values() for name in frame.columns)
    verdicts = " D's mean logits for encoder pairs or data (q) and decoder pairs (p): far apart, D has won."
    drawn = drawing.svg(figures.curves(by_seed), f"curves {key}")
    caption = f"Training, {seeds}." + verdicts * plays
    return [Figure(f"training curves of {title}", caption, drawing=drawn, shape="broad")], problems
