"""The model card of an exported run: a page in Markdown with the front matter that Hugging Face reads."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from alibench.evaluation.protocols import prose
from alibench.results import formats
from alibench.results.formats import in_markdown
from alibench.results.layouts import ARROWS, CATALOGUE

# the files of an export
CARD, README, PICTURE = "card.json", "README.md", "samples.png"
OTHERS = "other-values"  # what belongs to the model and to none of its networks: NAME.safetensors
WAY = ("metric", "protocol", "labels", "n", "split", "extractor", "unit")  # numbers with one have a mean
NOT_ASKED = "not asked for"  # of a program
SHOWN = 16  # samples that the page's code draws

Card = Mapping[str, Any]


def averaged(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the measured qualities among a model's rows, draws averaged, in their order."""
    values: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["kind"] == "quality" and row["status"] == "ok":
            values.setdefault(tuple(row[name] for name in WAY), []).append(row["value"])
    return [
        {**dict(zip(WAY, way, strict=True)), "value": sum(draws) / len(draws), "draws": len(draws)}
        for way, draws in values.items()
    ]


def markdown(card: Card) -> str:
    """Return the page of a card."""
    run = card["run"]
    sections = {
        "": [f"# {in_markdown(run['title'])} on {in_markdown(run['dataset'])}", *_about(card)],
        "Metrics": _metrics(card),
        "Training": _training(card),
        "Use": _use(card),
        "Files": _files(card),
    }
    parts = [f"## {title}\n\n" * bool(title) + "\n\n".join(texts) for title, texts in sections.items()]
    return _front_matter(card) + "\n" + "\n\n".join(parts) + "\n"


def _front_matter(card: Card) -> str:
    run, model = card["run"], card["model"]
    tags = ["adversarially-learned-inference", run["model"], run["config"]["dataset"].partition(":")[0]]
    lines = ["---", "# license: yours to choose", "library_name: alibench"]
    if _is_image(card) and model["generative"] and not model["conditional"]:
        lines.append("pipeline_tag: unconditional-image-generation")
    # JSON's texts are YAML's
    return "\n".join([*lines, "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---", ""])


def _is_image(card: Card) -> bool:
    return len(card["run"]["data_shape"]) == 3


# -------------------- sections


def _about(card: Card) -> Iterator[str]:
    run, model = card["run"], card["model"]
    words = (
        f"{in_markdown(run['title'])} ({in_markdown(model['source'])}), one training with seed {run['seed']}"
    )
    yield f"{words}, by ALI bench, a benchmark of Adversarially Learned Inference and its relatives."
    if model["is_users"]:
        file = in_markdown(model["file"])
        yield (
            "The model's class is not a part of ALI bench: it is its user's, in "
            f"{file} (sha256 {model['file_sha256']})."
        )
    if PICTURE in card["files"]:
        what = "Samples" if _is_image(card) else "Held-out data, codes, reconstructions and samples"
        yield f"![{what} of {in_markdown(run['title'])}]({PICTURE})"


def _metrics(card: Card) -> Iterator[str]:
    # A line for each way in which something was measured.
    lines: dict[int, list[str]] = {}
    for number in card["metrics"]:
        column = CATALOGUE.get(number["metric"])
        title = column.title + ARROWS[column.better] if column else number["metric"]
        by = [prose(number["protocol"]), f"{number['labels']} labels" * (number["labels"] is not None)]
        by += [number["extractor"], f"mean of {number['draws']} draws" * (number["draws"] > 1)]
        cells = [f"{number['value']:.{column.digits if column else 3}f}", str(number["n"] or "")]
        lines[len(lines)] = [title, *cells, number["split"], ", ".join(filter(None, by))]
    if not lines:
        yield "This run was not evaluated."
        return

    names = ["measure", "value", "n", "split", "measured by"]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=names)
    yield formats.table(frame.set_index("measure"))
    yield "Of this one training: how far another seed may differ is not in it."


def _training(card: Card) -> Iterator[str]:
    run, config = card["run"], card["run"]["config"]
    steps = "" if run["step"] is None else f"{run['step']:,} updates, "
    weights = "averaged weights (EMA)" if run["weights"] == "ema" else "the last weights"
    data = f"{in_markdown(run['dataset'])}, {in_markdown(run['data_splits'])}; sha256 {run['data_sha256']}"
    suite = f"Suite {in_markdown(run['suite'])}, networks {in_markdown(config['networks'])}"
    yield f"Data: {data}. {suite}, {steps}{weights}."
    settings = {**card["model"]["recipe"], **card["model"]["options"]}
    yield ", ".join(in_markdown(f"{name} {value}") for name, value in settings.items())
    # indented, so that nothing in it ends the block
    yield f"    {' '.join(run['command'].split())}"
    versions = ", ".join(in_markdown(f"{name} {version}") for name, version in run["versions"].items())
    yield f"Commit {in_markdown(run['commit'])}; {versions}; on {in_markdown(run['device'])}."


def _use(card: Card) -> Iterator[str]:
    yield "In this folder, with `alibench` installed:"
    yield _block(_loading(card))
    # Programs need none of that.
    kinds = {kind for kind in ("pt2", "onnx") if any(name.endswith(f".{kind}") for name in card["files"])}
    if "pt2" in kinds:
        yield "With torch alone; load no such file of a stranger's, since torch's loader may run code:"
        yield _block(_programs(card, "pt2"))
    if "onnx" in kinds:
        yield "With onnxruntime:"
        yield _block(_programs(card, "onnx"))


def _files(card: Card) -> Iterator[str]:
    # This page has no hash: it is there to be edited.
    frame = pd.DataFrame({"sha256": card["files"]}).rename_axis("file")
    yield formats.table(frame)
    yield f"{CARD} has layer tables, settings and unrounded numbers."
    for side, about in card["programs"].items():
        if differences := about.get("differences"):
            greatest = max(differences.values())
            yield f"The {side}'s programs differ from the model by {greatest:.1g} at most, on random inputs."
        elif about["absent"] != NOT_ASKED:
            yield f"There is no program of the {side}: {in_markdown(about['absent'])}."


# -------------------- code, which a test runs


def _block(lines: Iterable[str]) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _loading(card: Card) -> Iterator[str]:
    """Yield the lines that build the model anew, fill it and use it."""
    run, model = card["run"], card["model"]
    yield from ("import json", "from pathlib import Path", "", "import torch")
    yield from ("from safetensors.torch import load_file", "")
    if model["is_users"]:
        yield "from alibench.benchmarks.config import plugins"
    yield from ("from alibench.benchmarks.running import trained", "")

    if model["is_users"]:
        yield f"plugins.load({json.dumps(model['file'])})  # the file that defines the model"
    networks = [name for name in card["networks"] if f"{name}.safetensors" in card["files"]]
    yield f'card = json.loads(Path("{CARD}").read_text())'
    yield 'model = trained.untrained(card["run"], Path()).eval().requires_grad_(False)'
    yield f"for name in {json.dumps(networks)}:"
    yield '    getattr(model, name).load_state_dict(load_file(f"{name}.safetensors"))'
    if f"{OTHERS}.safetensors" in card["files"]:
        yield f'model.load_state_dict(load_file("{OTHERS}.safetensors"), strict=False)'

    # What it does, as far as this model can.
    y = ""
    yield ""
    if model["conditional"]:
        labels, y = run["data_labels"], ", y=y"
        attributes = f"y = torch.zeros({SHOWN}, {labels}, dtype=torch.long)  # the attributes wanted are 1"
        yield attributes if model["attributes"] else f"y = torch.arange({SHOWN}) % {labels}  # classes"
    shape = ", ".join(map(str, run["data_shape"]))
    drawn = f"model.sample({SHOWN}, torch.Generator().manual_seed(0){y})"
    yield f"x = {drawn}" if model["generative"] else f"x = torch.rand({SHOWN}, {shape})  # yours"
    if model["encodes"]:
        yield f"z = model.encode(x{y})"
    else:
        yield f"z = model.prior({SHOWN}, torch.Generator().manual_seed(0))"
    if model["inverts"]:
        yield f"again = model.decode(z{y})"


def _programs(card: Card, kind: str) -> Iterator[str]:
    """Yield the lines that run the programs of a kind on the x and z of the first block."""
    conditional = card["model"]["conditional"]
    yield from ("import torch", "") if kind == "pt2" else ("import onnxruntime", "")
    for side, taken, given in (("encoder", "x", "z"), ("decoder", "z", "x")):
        if f"{side}.{kind}" not in card["files"]:
            continue
        if kind == "pt2":
            yield f'{side} = torch.export.load("{side}.pt2").module()'
            yield f"{given}_by_torch = {side}({taken}{', y' * conditional})"
        else:
            yield f'{side} = onnxruntime.InferenceSession("{side}.onnx")'
            inputs = ", ".join(f'"{name}": {name}.numpy()' for name in [taken, *["y"] * conditional])
            yield f"({given}_by_onnx,) = {side}.run(None, {{{inputs}}})"
