"""The report: one page, for a browser without a network, of everything that one or several outputs hold.

It draws what is stored and computes nothing new. What an output lacks (a run that has not finished, a damaged
file, arrays of an earlier version) is named on the page, a line each, and leaves the rest as it is.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from alibench.evaluation import files, pictures
from alibench.evaluation.errors import BadInput
from alibench.models import REGISTRY
from alibench.results import figures, formats, layouts, rows, statistics, stored, tables
from alibench.results.figures import Picture
from alibench.results.formats import Sheet

NAME = "report.html"
SHORT = {
    *(table.name for table in layouts.TABLES),
    "runs",
    "statistics",
}  # names of tables, without the suite's
CURVES = 50  # seeds of a model whose curves are drawn: thousands are a page that no browser opens
DRAWN = {"overview": "At a glance", "throughput": "Throughput"}  # tables with a drawing, which stand apart


@dataclass
class Output:
    """A folder that a command filled, as far as it can be read."""

    path: Path
    label: str  # what tells it from others on the page
    frame: pd.DataFrame
    origins: dict[str, dict[str, Any]]  # run -> run.json
    tables: Mapping[str, Sheet]
    problems: list[str]


def read(path: Path, label: str = "", made: Mapping[str, Sheet] | None = None) -> Output:
    """Return what an output holds, and what it lacks; `made` are its tables, where that was done already.

    Raises BadInput if it holds no finished run.
    """
    damaged: dict[str, str] = {}
    frame = rows.read(path, lambda folder, damage: damaged.update({folder.name: str(damage)}))
    problems = list(damaged.values())
    if frame.empty:
        why = f" ({problems[0]})" if problems else ""
        raise BadInput(f"{path} holds no finished runs{why}: finish or repeat them first")
    origins = {run_id: rows.read_origin(path / "runs" / run_id) for run_id in frame.run_id.unique()}
    begun = dict.fromkeys(folder.name for folder in stored.run_folders(path))
    try:
        plan = stored.read_plan(path)
        begun |= dict.fromkeys(plan.get("runs") or plan.get("weights") or ())
    except FileNotFoundError:
        pass  # rows alone may have been kept
    except (files.Damaged, OSError) as problem:
        problems.append(f"{problem}: which runs it asks for is not known")
    unfinished = [run for run in begun if run not in origins and run not in damaged]
    if unfinished:
        shown = ", ".join(unfinished[:5]) + f" and {len(unfinished) - 5} more" * (len(unfinished) > 5)
        problems.append(f"{path}: not finished: {shown}; go on with --resume")
    return Output(
        path, label or path.name, frame, origins, tables.tables(frame) if made is None else made, problems
    )


# -------------------- parts of the page


@dataclass(frozen=True)
class Figure:
    """A picture of a model: of pixels, of frames below one another, or drawn."""

    alt: str
    caption: str
    picture: Picture | None = None
    drawing: str = ""
    shape: str = "square"  # or "broad"
    steps: int = 0  # frames that a slider moves through
    start: Picture | None = None  # what the lines begin and end at
    end: Picture | None = None


@dataclass
class Card:
    """A model of one output."""

    label: str
    title: str
    about: str
    alarms: str
    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _images(title: str, arrays: Mapping[str, Any]) -> list[Figure]:
    found = []
    if "samples" in arrays:
        n = len(arrays["samples"])
        picture = figures.picture(figures.tile(arrays["samples"], 10))
        found.append(
            Figure(f"{n} samples of {title} in a grid", f"{n} samples, the first of the seed.", picture)
        )
    if "reconstructions" in arrays:
        picture = figures.picture(figures.tile(figures.pairs(arrays), 10))
        caption = "Pairs of a held-out image and, to the right of it, its reconstruction."
        found.append(Figure(f"originals and reconstructions of {title} in pairs", caption, picture))
    if "interpolations" in arrays:
        lines, steps = arrays["interpolations"].shape[:2]
        from_data = "reconstructions" in arrays
        ends = arrays["x"][: 2 * lines].reshape(lines, 2, *arrays["x"].shape[1:])
        start, end = (
            figures.picture(figures.tile(ends[:, side], lines)) if from_data else None for side in range(2)
        )
        caption = (
            "Decoded from the straight line between the codes of two held-out images, the one above and the "
            "one below."
            if from_data
            else "Decoded from the straight line between two draws of the prior."
        )
        picture = figures.frames(arrays["interpolations"])
        alt = f"interpolations of {title} in the latent space, {steps} steps"
        found.append(Figure(alt, caption, picture, steps=steps, start=start, end=end))
    return found


def _points(title: str, arrays: Mapping[str, Any], key: str) -> list[Figure]:
    drawing = figures.svg(figures.plane(arrays, across=2, size=2.4), f"plane {key}")
    alt = f"held-out points, codes, reconstructions and samples of {title} in the plane"
    found = [
        Figure(alt, "Held-out data, codes and reconstructions have the colour of their mode.", None, drawing)
    ]
    if "interpolations" in arrays:
        steps = arrays["interpolations"].shape[1]
        ends = "codes of two held-out points" if "codes" in arrays else "two draws of the prior"
        caption = f"Each point is decoded from the straight line between the {ends}; grey: held-out data."
        alt = f"interpolations of {title} in the latent space, {steps} steps"
        found.append(Figure(alt, caption, figures.walk(arrays), steps=steps))
    return found


def _curves(
    title: str, folders: Mapping[int, Path], origins: Mapping[str, Mapping[str, Any]], key: str
) -> tuple[list[Figure], list[str]]:
    by_seed: dict[int, pd.DataFrame] = {}
    problems = []
    for seed, folder in folders.items():
        if len(by_seed) == CURVES:
            break
        try:
            frame = stored.read_curves(folder, origins[folder.name])
            first = next(iter(by_seed.values()), frame)
            if set(frame.columns) != set(first.columns):
                raise files.Damaged(f"{folder / stored.CURVES} has other columns than those of another seed")
            by_seed[seed] = frame
        except FileNotFoundError:
            continue  # rows alone may have been kept
        except (files.Damaged, OSError) as problem:
            problems.append(f"{problem}: no curves of seed {seed}")
    if not by_seed:
        return [], problems
    drawing = figures.svg(figures.curves(by_seed), f"curves {key}")
    seeds = f"{len(by_seed)} seeds, a line each" if len(by_seed) > 1 else f"seed {next(iter(by_seed))}"
    seeds = f"the first {seeds}" if len(by_seed) == CURVES < len(folders) else seeds
    plays = any(name.startswith("logit ") for frame in by_seed.values() for name in frame.columns)
    verdicts = " D's mean logits for encoder pairs or data (q) and decoder pairs (p): far apart, D has won."
    caption = f"Training, {seeds}." + verdicts * plays
    return [Figure(f"training curves of {title}", caption, None, drawing, "broad")], problems


def _card(output: Output, own: pd.DataFrame, model: str) -> Card:
    """Return what there is of a model in a suite's rows."""
    row = own.iloc[0]
    runs = own.drop_duplicates("run_id")
    folders = {
        int(seed): output.path / "runs" / run for seed, run in zip(runs.seed, runs.run_id, strict=True)
    }
    config = output.origins[row.run_id]["config"]
    of = config.get("model", {}).get(model, {}).get("of") or model
    source = REGISTRY[of].source if of in REGISTRY else ""
    key = f"{output.label} {row.suite} {model}"
    steps = own.step.dropna().unique()
    alarms = own[(own.metric == "alarms") & (own.reason != "")]
    told = "; ".join(
        f"seed {seed}: {reason}" for seed, reason in zip(alarms.seed, alarms.reason, strict=True)
    )
    card = Card(output.label, str(row.title), "", told)
    shown = next((seed for seed, folder in folders.items() if (folder / pictures.NAME).exists()), None)
    if shown is None:
        card.problems.append(
            f"No arrays are kept of it ({pictures.NAME}): 'alibench evaluate' makes them from a trained run."
        )
    else:
        try:
            arrays = pictures.read(folders[shown])
            images = arrays["x"].ndim == 4
            card.figures += _images(card.title, arrays) if images else _points(card.title, arrays, key)
            if images and "latent" in arrays:
                figure, axes = figures.latent(
                    arrays["latent"], arrays["latent_y"], output.origins[row.run_id].get("data_classes", ())
                )
                caption = f"Mean codes of {len(arrays['latent'])} held-out images by class, on {axes}."
                drawing = figures.svg(figure, f"latent {key}")
                card.figures.append(
                    Figure(
                        f"latent space of {card.title}, coloured by class", caption, None, drawing, "broad"
                    )
                )
            if "interpolations" not in arrays and "reconstructions" in arrays:
                card.problems.append(
                    "No interpolations: an earlier version evaluated this run; 'alibench evaluate' adds them."
                )
        except (files.Damaged, OSError, KeyError) as damage:
            missing = (
                f"{folders[shown] / pictures.NAME} lacks {damage}"
                if isinstance(damage, KeyError)
                else str(damage)
            )
            output.problems.append(f"{missing}: no pictures of {card.title}; evaluate this run again")
            card.problems.append("Its pictures are missing, see above.")
    drawn, problems = _curves(card.title, folders, output.origins, key)
    card.figures += drawn
    output.problems += problems
    trained = f"{' or '.join(f'{step:,}' for step in steps)} updates" if len(steps) else ""
    seeds = f"{len(folders)} seed{'s' * (len(folders) != 1)}"
    card.about = " · ".join(
        filter(None, [source, seeds, trained, "" if shown is None else f"pictures of seed {shown}"])
    )
    return card


def _drawing(sheet: Sheet, own: pd.DataFrame, name: str, key: str) -> dict[str, str]:
    """Return a drawing of a table's numbers, of what is compared alone, and what to say of it."""
    titles = list(dict.fromkeys(own[tables.rivals(own)].title))
    figure = (figures.bars if name == "throughput" else figures.spread)(sheet, titles)
    return {
        "drawing": figures.svg(figure, f"{name} {key}") if figure else "",
        "alt": f"{name} of {', '.join(titles)}, drawn; the numbers are in the table below",
    }


def interval(sheet: Sheet, line: int, cell: int) -> str:
    """Return the interval of a mean over two seeds or more, with the mean's digits; else nothing."""
    column = sheet.frame.columns[cell]
    if sheet.seeds is None or column not in sheet.seeds.columns:
        return ""
    values = sheet.seeds[column].iloc[line]
    if len(values) < 2:
        return ""
    digits = len(str(sheet.frame.iloc[line, cell]).split(" ")[0].partition(".")[2])
    low, high = statistics.interval(values)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _provenance(output: Output) -> dict[str, Any]:
    origins = list(output.origins.values())

    def all_of(get: Callable[[Mapping[str, Any]], Any]) -> str:
        return ", ".join(dict.fromkeys(str(found) for origin in origins if (found := get(origin))))

    commit = all_of(lambda origin: origin["commit"])
    command = all_of(lambda origin: rows.anew(shlex.split(origin["command"])))
    if re.fullmatch(r"[0-9a-f]{40}\+?", commit):
        changed = (
            "  # its files had been changed: the commit alone does not make these numbers"
            * commit.endswith("+")
        )
        command = f"git checkout {commit.removesuffix('+')}{changed}\n{command}"
    versions = {key: value for origin in origins for key, value in origin["versions"].items()}
    configs = {origin["suite"]: origin["config"] for origin in origins}
    return {
        "label": output.label,
        "command": command,
        "facts": {
            "folder": output.path,
            "code": commit,
            "device": all_of(lambda origin: origin["device"]),
            "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
            "data": all_of(lambda origin: f"{origin['dataset']} (sha256 {origin['data_sha256'][:16]})"),
            "splits": all_of(lambda origin: origin.get("data_splits")),
            "own models": all_of(
                lambda origin: ", ".join(
                    f"{path} (sha256 {sha[:16]})" for path, sha in origin.get("plugins", {}).items()
                )
            ),
            "extractor": all_of(lambda origin: (origin.get("extractor") or {}).get("identity")) or "none",
        },
        "configs": {name: json.dumps(config, indent=1) for name, config in configs.items()},
        "runs": [
            {"id": run, "step": origin["step"] or "", "weights": origin["weights_sha256"] or ""}
            for run, origin in output.origins.items()
        ],
    }


# ------------------------------------------------------------------------------------------------ the page


def html(outputs: Sequence[Output]) -> str:
    """Return the page."""
    suites = []
    names = dict.fromkeys(suite for output in outputs for suite in output.frame.suite)
    for number, name in enumerate(names):
        holders = [(output, output.frame[output.frame.suite == name]) for output in outputs]
        holders = [(output, own) for output, own in holders if len(own)]
        cards: dict[str, list[Card]] = {}
        sheets: dict[str, list[dict[str, Any]]] = {}
        for output, own in holders:
            trained = own[tables.own(own) & own.seed.notna() & own.run_id.str.contains("-seed")]
            for model, part in trained.groupby("model", sort=False):
                cards.setdefault(str(model), []).append(_card(output, part, str(model)))
            for title, sheet in output.tables.items():
                short, key = title.removeprefix(f"{name}-"), f"{output.label} {name}"
                if short not in SHORT:  # another suite's
                    continue
                drawing = _drawing(sheet, own, short, key) if short in DRAWN else {}
                sheets.setdefault(short, []).append({"label": output.label, "sheet": sheet, **drawing})
        config = holders[0][0].origins[holders[0][1].run_id.iloc[0]]["config"]
        suites.append({
            "name": name,
            "anchor": f"suite-{number}",
            "title": config.get("title", name),
            "different_data": _different_data(name, outputs),
            "drawn": {title: parts for title, parts in sheets.items() if title in DRAWN},
            "models": [{"cards": own} for own in cards.values()],
            "tables": {title: parts for title, parts in sheets.items() if title not in DRAWN},
        })  # fmt: skip
    return formats.PAGES.get_template(NAME).render(
        title="ALI bench: " + ", ".join(output.label for output in outputs),
        suites=suites,
        problems=[problem for output in outputs for problem in output.problems],
        provenance=[_provenance(output) for output in outputs],
        several=len(outputs) > 1,
        interval=interval,
        headings=DRAWN,
    )


def _different_data(name: str, outputs: Sequence[Output]) -> str:
    """Say which outputs of a suite were measured on which data, if not all on the same; else nothing."""
    measured: dict[str, list[str]] = {}
    for output in outputs:
        for origin in output.origins.values():
            if origin["suite"] == name:
                data = f"{origin['dataset']} (sha256 {origin['data_sha256'][:16]})"
                if output.label not in (labels := measured.setdefault(data, [])):
                    labels.append(output.label)
    if len(measured) < 2:
        return ""
    parts = "; ".join(f"{', '.join(labels)}: {data}" for data, labels in measured.items())
    return f"suite {name}: these outputs were measured on different data, so their numbers cannot be compared: {parts}"


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return the end of each path that tells it from the others."""
    for depth in range(1, max(len(path.resolve().parts) for path in paths) + 1):
        labels = ["/".join(path.resolve().parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise BadInput(f"the same folder is named twice: {paths[0]}")


def page(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """Return the page of some outputs, and what they lack, a line each. Raises BadInput."""
    return _page([read(path, label) for path, label in zip(paths, _labels(paths), strict=True)])


def _page(outputs: Sequence[Output]) -> tuple[str, list[str]]:
    made = html(outputs)
    suites = dict.fromkeys(suite for output in outputs for suite in output.frame.suite)
    different = filter(None, (_different_data(name, outputs) for name in suites))
    return made, [*(problem for output in outputs for problem in output.problems), *different]


def write(path: Path, made: Mapping[str, Sheet] | None = None) -> list[str]:
    """Write the page of an output into it; return what it lacks, a line each. Raises BadInput, or OSError."""
    text, problems = _page([read(path, made=made)])
    files.replace(path / NAME, text)
    return problems
