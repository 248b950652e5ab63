"""Opening a stranger's file gives no traceback, does not hang, changes nothing elsewhere and runs no code.

`nox -s faults -- -k strangers` opens a thousand crafted and damaged inputs (`--inputs N`) by every command
that reads them.
"""

import json
import os
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alibench import load_run
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, schema
from alibench.benchmarks.data import datasets as sets
from alibench.benchmarks.running import trained
from alibench.evaluation import files, pictures
from alibench.evaluation.errors import BadInput
from alibench.results import baseline, report, rows, stored
from tests import strangers
from tests.conftest import TINY
from tests.faults.trial import asked
from tests.strangers import craft, craft_tensors, listing, mislead, opened, rewrite, spoil

pytestmark = pytest.mark.faults
SECONDS = 5  # that an input may take
ROUND = 11 * 14 + 5  # inputs of which every command has one of every kind of file that it reads
FEW = ("--models", "ali", "vae", "--seeds", "1", *(f"--set={key}" for key in ("steps=20", "batch=10")))
FEW += ('--set=metrics=["reconstruction"]',)
HOSTILE = "import os; open(os.environ['RAN'], 'w').write(__name__)"  # a module, or a plug-in next to it
RUN = "runs/digits-ali-seed0"
OF_A_RUN = ("run.json", "rows.json", "training.json", "curves.csv", "arrays.safetensors", "model.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one of every kind of file that is read again, and return their folder."""
    place = tmp_path_factory.mktemp("made")
    rng = np.random.RandomState(0)
    np.savez(place / "set.npz", x=rng.randint(256, size=(120, 8, 8), dtype=np.uint8), y=np.arange(120) % 2)
    (place / "mine.toml").write_text((loading.FOLDER / "digits.toml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIBENCH_DATA", str(place / "home"))
        sets.load(f"npz:{place / 'set.npz'}")
        assert main(["run", "digits", *TINY, *FEW, "--out", str(place / "out")]) == 0
        assert main(["run", "digits", *FEW, "--dry-run", "--device", "cpu"]) == 0  # for what it imports
    (suite,) = loading.load("gate")
    committed = baseline.read(Path("results/baselines/gate.json"))
    output(place / "gate", suite, baseline.read(Path("results/baselines/gate-pool.json")), range(60, 65))
    baseline.write(place / "mine.baseline.json", committed)
    return place


def output(out: Path, suite: schema.Suite, of: baseline.Baseline, seeds: range) -> None:
    """Write an output with the numbers of a baseline for some seeds, as far as the gate reads it."""
    settings = json.loads(json.dumps(asdict(replace(suite, first_seed=seeds[0], seeds=len(seeds)))))
    about = {"commit": "0" * 40, "config": settings, "versions": {}, "device": "cpu", "weights_sha256": None}
    about |= {"data_sha256": of.data_sha256, "command": "alibench regression", "protocols": of.protocols}
    titles = {model: suite.entry(model).title for model in suite.models}

    def owner(cell: str) -> str:
        return next(m for m in suite.models if cell == m or cell.startswith(f"{titles[m]}, "))

    for model in suite.models:
        cells = [cell for cell in of.cells if owner(cell.model) == model and not cell.gated.over]
        for seed in seeds:
            measured = [
                {
                    **{**cell.identity, "metric": cell.gated.metric, "draw": None, "reason": ""},
                    **{"value": cell.by_seed[seed], "protocol": cell.protocol},
                    **{"kind": "quality", "status": "ok", "note": "", "seed": seed},
                    "reference": cell.model if cell.model != model else "",
                }
                for cell in cells
            ]
            run_id = f"gate-{model}-seed{seed}"
            (out / "runs" / run_id).mkdir(parents=True)
            run = rows.Run(run_id, "gate", model, titles[model], of.dataset, seed, 1, "ema")
            rows.write(out / "runs" / run_id, run, measured, about)


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with a stranger's in it, in which we stand, and others that nothing may touch."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "home"))
    yield tmp_path
    assert not (tmp_path / "ran").exists(), "code of a stranger's ran"


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many inputs are opened."""
    return asked(request, "--inputs", 1000, 80)


def stranger(made: Path, world: Path) -> Path:
    """Lay everything out anew, and return the stranger's folder."""
    place = world / "stranger"
    for old in (place, world / "home", world / "moved", world / "written"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(made, place, symlinks=True)
    shutil.copytree(made / "home", world / "home")
    (world / "written").mkdir()
    for module in ("pickle", "struct", "socket", "sitecustomize"):
        (place / f"{module}.py").write_text(HOSTILE)
    os.chdir(place)
    return place


Command = Callable[[Path, Path], int]  # in the stranger's folder, with another to write to
Change = Callable[[Path, random.Random], str]


def words(line: str) -> Command:
    """Return a command, from its words with {to} for where it writes."""
    return lambda place, to: main(line.format(to=to).split())


# what is opened -> the commands that read it
OUTPUT: dict[str, Command] = {
    "report": words("report out --out {to}/page.html"),
    "report in place": words("report out"),
    "table": words("table out"),
    "tables": words("tables --from out --out {to}/tables"),
    "compare": words("compare out out --out {to}/compared"),
    "collect": words("collect out --out {to}/all"),
    "evaluate": words("evaluate out --dry-run --device cpu"),
    "regression": words("regression --from out --out {to}/gate"),
    "sample": words(f"sample out/{RUN} --grid {{to}}/made.png --device cpu"),
    "export": words(f"export out/{RUN} --out {{to}}/exported"),
    "load_run": lambda place, to: loaded(place / "out" / RUN),
}
GATE = {"regression": words("regression --from gate --baseline mine.baseline.json --out {to}/gate")}
CACHE: dict[str, Command] = {"data.load": lambda place, to: read_again(place)}
SUITE = {"run": words(f"run mine.toml {' '.join(FEW)} --dry-run --device cpu")}


def loaded(folder: Path) -> int:
    """Load a run, or be refused."""
    try:
        load_run(folder)
    except BadInput:
        return 2
    return 0


def read_again(place: Path) -> int:
    """Load data whose cache is a stranger's; the data themselves are not, so the result is."""
    data = sets.load(f"npz:{place / 'set.npz'}")
    assert len(data.train) + len(data.validation) + len(data.test) == 120
    return 0


def inputs(rng: random.Random) -> Iterator[tuple[str, str, Command, Callable[[Path], str]]]:
    """Yield, without an end, a kind of file, a command that reads it, and what crafts it in the folder."""
    kinds: list[tuple[str, dict[str, Command], Change, str]] = [
        ("plan.json", OUTPUT, craft, "out/plan.json"),
        ("plan.json, spoilt", OUTPUT, spoil, "out/plan.json"),
        ("links", OUTPUT, lambda place, rng: mislead(place / "out", rng, place.parent / "mine"), ""),
    ]
    for name in OF_A_RUN:
        path = f"out/{RUN}/{name}"
        kinds.append((f"{name}, spoilt", OUTPUT, spoil, path))
        if name != "curves.csv":
            kinds.append((name, OUTPUT, craft if name.endswith(".json") else craft_tensors, path))
    kinds += [
        ("baseline", GATE, craft, "mine.baseline.json"),
        ("baseline, spoilt", GATE, spoil, "mine.baseline.json"),
        ("cache, spoilt", CACHE, lambda place, rng: spoil(rng.choice(cached(place)), rng), ""),
        ("cache", CACHE, lambda place, rng: craft(cached(place, "header.json")[0], rng), ""),
        ("suite, spoilt", SUITE, spoil, "mine.toml"),
    ]
    while True:
        for kind, commands, change, path in kinds:
            for name, command in commands.items():
                yield kind, name, command, lambda place, change=change, path=path: change(place / path, rng)


def cached(place: Path, name: str = "*") -> list[Path]:
    """Return the files of the cache of pictures, and what is remembered of their hashes."""
    return sorted(path for path in (place.parent / "home" / "cache").rglob(name) if path.is_file())


def test_opening_a_strangers_file_is_safe(made: Path, world: Path, count: int, capsys: Any) -> None:
    rng, codes = random.Random(22), Counter[str]()
    wrong: list[str] = []
    every = inputs(rng)
    round_ = [next(every) for _ in range(ROUND)]
    chosen = rng.sample(round_, count) if count < ROUND else [*round_, *islice(every, count - ROUND)]

    for number, (kind, name, command, make) in enumerate(chosen):
        place = stranger(made, world)
        what = f"{number}, {name} of {kind}: {make(place)}"
        before = {part: listing(world / part) for part in ("mine", "stranger")}
        try:
            found = opened(partial(command, place, world / "written"), capsys, SECONDS)
        except BaseException as error:
            wrong.append(f"{what}: {traceback.format_exception(error)[-2:]}")
            continue

        codes[f"{name}: {found.code}"] += 1
        in_place = name in ("report in place", "table")
        lines = [line for line in found.said.splitlines() if line.startswith("alibench: ")]
        held = {
            "exit code": found.code in (0, 1, 2),
            "traceback": "Traceback" not in found.said,
            "terminal": "\x1b" not in found.said,
            "another's files": listing(world / "mine") == before["mine"],
            "the stranger's files": in_place or listing(world / "stranger") == before["stranger"],
            "nothing written": found.code != 2 or not list((world / "written").iterdir()),
            "a line": found.code != 2 or bool(lines) or name == "load_run",
        }
        broken = [claim for claim, holds in held.items() if not holds]
        wrong += [f"{what}: {claim} (code {found.code}): {lines}" for claim in broken]
    print(f"\n{count} inputs, answers by command and exit code: {dict(sorted(codes.items()))}")
    assert not wrong, "\n".join(wrong)


def test_a_flipped_bit_of_any_file_of_an_output_is_noticed_or_harmless(
    made: Path, world: Path, count: int
) -> None:
    rng, noticed = random.Random(23), 0

    def seen(out: Path) -> Any:
        """Return what the project reads of an output, or what it says of it."""
        run = out / RUN
        try:
            page, problems = report.page([out])
            if problems:
                return "noticed"
            found = trained.kept(run), trained.find(out), stored.read_plan(out)
            weights = files.digest(*(t for _, t in sorted(trained.weights(run / trained.WEIGHTS).items())))
            arrays = {name: array.tolist() for name, array in pictures.read(run).items()}
            return page, rows.read(out).to_json(), repr(found), weights, arrays
        except (BadInput, files.Damaged):
            return "noticed"

    expected = seen(stranger(made, world) / "out")
    assert expected != "noticed"
    every = sorted(path.relative_to(made / "out") for path in (made / "out").rglob("*") if path.is_file())
    for number in range(count // 5):
        out = stranger(made, world) / "out"
        path = out / (every[number] if number < len(every) else rng.choice(every))
        raw = bytearray(path.read_bytes())
        if not raw:
            continue
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        found = seen(out)
        assert found in ("noticed", expected), path
        noticed += found == "noticed"
    print(f"\n{noticed} noticed, the others harmless")


def test_the_gate_passes_on_no_number_that_is_not_one(made: Path, world: Path, count: int) -> None:
    place, rng = stranger(made, world), random.Random(24)
    assert GATE["regression"](place, world / "written") == 0  # as it is, it passes
    for number in range(max(8, count // 10)):
        place = stranger(made, world)
        value = rng.choice((float("nan"), None, float("inf"), -float("inf"), "1.5", 1e308))
        if number % 2:
            path = place / "mine.baseline.json"
            body = strangers.body_of(path)
            rng.choice(rng.choice(body["cells"])["by_seed"])[1] = value
        else:
            path = rng.choice(sorted((place / "gate/runs").glob("*/rows.json")))
            body = strangers.body_of(path)
            rng.choice(body)["value"] = value
        rewrite(path, body)
        assert GATE["regression"](place, world / "written") in (1, 2), f"{path}, {value!r}"


def test_no_interpreter_imports_from_the_folder_that_is_read(made: Path, world: Path) -> None:
    stranger(made, world)  # with pickle.py, struct.py and others that say so where we stand
    again = words("evaluate out --metrics reconstruction --device cpu --out {to}/again")
    assert again(world, world / "written") == 0
    assert isinstance(rows.read(world / "written/again"), pd.DataFrame)
