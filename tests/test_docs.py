"""Every command that the documentation shows is one that runs; its code blocks too.

Commands that train are run by `--dry-run`, which does all but train: it reads arguments, suites, data and
plug-ins, builds every model and makes a round with it. The others do what they say, in a folder that holds
what the documentation speaks of.
"""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import noxfile
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import outputs
from alibench.evaluation.data import Data
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.results import baseline
from tests.conftest import GATED, build, in_this_process

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# a dry run makes a round with every model, also by the papers' networks, and times an evaluation
ROUND, MEASURED = ("--set", "batch=10"), ("--set", "evaluation.draws=1", "--set", "evaluation.labels=50")
QUICKLY = {
    "run": (*ROUND, *MEASURED),
    "tune": (*ROUND, *MEASURED),
    "evaluate": MEASURED,
    "regression": (),
    "demo": (),
}
HERE = {
    "--device cuda": "--device cpu",
    "cifar10-jpeg": "pictures",
    " DATASET": " folder:pictures",
    " SUITE": " digits",
    "=N": "=2000",
    "/shared/": "shared/",
}
# their data are downloaded, so they take pictures here
PUBLISHED = ("cifar10", "svhn", "celeba", "tiny_imagenet", "mnist")


def shown(page: Path) -> list[str]:
    """Return a page's commands: lines of its shell blocks, and what stands in the text between backticks."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [" ".join(words.split()) for words in re.findall(r"`((?:alibench|nox) [^`]+)`", prose)]
    lines += [words for words in inline if len(words.split()) > 2]  # fewer are a command's name
    found = []
    for line in lines:
        command = re.sub(r"\s+(#|>).*", "", line).replace(".nox/env/bin/", "").replace(".venv/bin/", "")
        found += [part for part in command.split(" && ") if part.startswith(("alibench", "nox"))]
    return found


COMMANDS = sorted({(command, page.name) for page in PAGES for command in shown(page)})
ONCE = dict(reversed(COMMANDS))


def shows(command: str) -> set[str]:
    """Return what a command is an example of: its name, and its name with each option."""
    words = shlex.split(command)
    name = words[1] if words[0] == "alibench" else " ".join(words[:3])
    return {name, *(f"{name} {word}" for word in words[2:] if word.startswith("--") and word != "--")}


def one_of_each() -> set[str]:
    """Return the short form: each command that the documentation shows, with each option, at least once.

    Only those of networks for photographs are left to the whole form: they take half a minute to build.
    """
    chosen, seen = set[str](), set[str]()
    for command in sorted(ONCE, key=len):
        photographs = any(word.startswith(PUBLISHED) for word in command.split())
        if not photographs and not shows(command) <= seen:
            chosen.add(command)
            seen |= shows(command)
    return chosen


SHORT = one_of_each()
CASES = [
    pytest.param(command, id=f"{page}: {command}", marks=[] if command in SHORT else pytest.mark.whole)
    for command, page in ONCE.items()
]


@pytest.fixture(scope="session")
def place(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the documentation speaks of."""
    folder = tmp_path_factory.mktemp("docs")
    rng = np.random.RandomState(0)
    for c in range(2):
        (folder / "pictures" / f"class{c}").mkdir(parents=True)
        for i in range(80):
            pixels = rng.randint(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"class{c}" / f"{i}.png")
    (folder / "made").mkdir()
    for i, x in enumerate(datasets.load("digits").train.x[:400, 0].numpy()):
        Image.fromarray(x).save(folder / "made" / f"{i}.png")
    np.savez(folder / "made.npz", samples=datasets.load("digits").train.x[:400, 0].numpy())
    x = rng.randint(256, size=(200, 16, 16), dtype=np.uint8)
    np.savez(folder / "mine.npz", x=x, y=np.arange(200) % 2)
    rows = [f"{a:.3f},{b:.3f},{i % 2}" for i, (a, b) in enumerate(rng.randn(200, 2))]
    (folder / "mine.csv").write_text("\n".join(["a,b,y", *rows]))
    for example in (ROOT / "docs" / "examples").iterdir():
        shutil.copy(example, folder)
    (folder / "mine.toml").write_text(GATED)
    judged = folder / "judged"
    suite = str(folder / "mine.toml")
    with in_this_process():
        assert main(["run", suite, "--device", "cpu", "--set", "first_seed=1000", "--out", str(judged)]) == 0
    (own,) = loading.load(suite)
    collected = baseline.collect(judged, own.name, own.gate, own.models, range(1000, 1003))
    # as many seeds as a baseline needs, with the numbers of those three
    seeds = {seed: 1000 + seed % 3 for seed in range(baseline.FEWEST)}
    more = [{seed: cell.by_seed[old] for seed, old in seeds.items()} for cell in collected.cells]
    cells = [replace(cell, by_seed=own) for cell, own in zip(collected.cells, more, strict=True)]
    baseline.write(folder / "mine.baseline.json", replace(collected, cells=cells))
    for name in ("DIR", "OTHER"):  # what `run digits` leaves
        shutil.copytree(quick, folder / name, ignore=shutil.ignore_patterns("grid25_easy*"))
    return folder


def as_alibench(command: str, monkeypatch: pytest.MonkeyPatch) -> list[str] | None:
    """Return a command's words after `alibench`; none for a session that is none of its commands."""
    words = shlex.split(command)
    if words[0] == "alibench":
        return words[1:]
    if "-l" in words:
        return None
    before, _, after = " ".join(words).partition(" -- ")
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(noxfile, "python", lambda session, *arguments: called.append(arguments))
    monkeypatch.setattr(noxfile, "environment", lambda session: "python")
    for name in before.split()[2:]:
        function: Any = getattr(noxfile, name).func  # a session that is not there is an AttributeError
        function(SimpleNamespace(posargs=shlex.split(after), run=lambda *arguments, **options: None))
    ours = [arguments[2:] for arguments in called if arguments[:2] == ("-m", "alibench")]
    return list(ours[0]) if ours else None


def test_the_documentation_shows_commands() -> None:
    assert len(ONCE) > 30
    pages = {page.name for page in PAGES if shown(page)}
    assert pages >= {"README.md", "own-model.md", "own-data.md", "regression.md"}


@pytest.mark.commands
@pytest.mark.parametrize("command", CASES)
def test_a_command_of_the_documentation_runs(
    command: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for there, here in HERE.items():
        command = command.replace(there, here)
    words = as_alibench(command, monkeypatch)
    if words is None:
        return  # pytest, ruff and mypy take their own arguments
    for entry in place.iterdir():  # what is there, and nothing that another command made
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "local")  # no cluster but its own
    monkeypatch.setattr("alibench.benchmarks.running.outputs.RUNS", tmp_path / "results")
    # That something is timed is enough here.
    monkeypatch.setattr("alibench.benchmarks.running.timing.MOMENT", 0.0)
    monkeypatch.setattr("alibench.benchmarks.running.timing.LARGE", 0)
    name, *options = words
    if name in QUICKLY:
        other = {"evaluate": "DIR", "regression": "judged"}.get(name, "fresh")
        begun = [other if option == "DIR" else option for option in options]
        options = begun + ["--dry-run"] * ("--from" not in begun and "--dry-run" not in begun)
        options += QUICKLY[name]
        if any(option.startswith(PUBLISHED) for option in options) and "--data" not in options:
            options += ["--data", "folder:pictures"]
    expected = 1 if name == "collect" else 0  # DIR and OTHER have a half of their plan, as collect says
    assert main([name, *options]) == expected, capsys.readouterr().err


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("number", "file"), [(0, "own_modules.py"), (1, "my_model.py")])
def test_the_model_on_the_page_is_the_file_beside_it(number: int, file: str) -> None:
    block = python_blocks(ROOT / "docs" / "own-model.md")[number]
    assert block in (ROOT / "docs" / "examples" / file).read_text()


def test_every_model_on_the_page_passes_its_check(tmp_path: Path) -> None:
    models = [block for block in python_blocks(ROOT / "docs" / "own-model.md") if "class" in block]
    for number, block in enumerate(models):
        if "..." not in block:
            (tmp_path / f"model{number}.py").write_text(block)
            assert main(["check", str(tmp_path / f"model{number}.py"), "--steps", "20"]) == 0
    assert number >= 3


def test_the_metric_on_the_page_measures(digits: Data) -> None:
    (block,) = (block for block in python_blocks(ROOT / "docs" / "extending.md") if "def measure" in block)
    metric: dict[str, Any] = {}
    exec(block, metric)
    subject = Subject(build("ali").eval(), digits, Settings(), 0)
    (row,) = metric["measure"](subject)
    assert row.value == pytest.approx(float(subject.samples.std(0).mean()))
    assert metric["unsupported_reason"](digits, Settings()) == ""
    assert {column.metric for column in metric["COLUMNS"]} == {row.metric}


def quickly(block: str) -> str:
    """Return Python with a moment's training, and fewer measures, in the place of those that it shows."""
    block = re.sub(
        r"seeds=\d(, steps=\d+)?", 'seeds=1, steps=4, metrics=["reconstruction"], device="cpu"', block
    )
    return block.replace('{"steps": 200}', '{"steps": 4}').replace(', "svm"]', "]")


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(
    page: Path, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "DIR").symlink_to(quick)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs, "RUNS", tmp_path)
    # the names that pages speak of
    names: dict[str, Any] = {"my_model": build("ali").eval()}
    for block in python_blocks(page):
        # pages on models of one's own show files, which other tests take
        if "..." in block or ("lsali" in block and page.stem == "own-model"):
            continue
        with in_this_process(), plugins.meanwhile():
            exec(quickly(block), names)
    if page.stem == "README":
        assert names["x"].shape == names["again"].shape == (16, 1, 8, 8)
        assert torch.isfinite(names["z"]).all()


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "RUNS", tmp_path)
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    with in_this_process():
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(quickly("".join(cell["source"])), names)
    assert {"ALI", "VAE", "my-ali"} <= {*next(iter(names["mine"].tables.values())).index}
