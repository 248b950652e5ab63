"""Runs of many machines are brought together as if one had trained them all, or refused by name."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.running import collecting, jobs, outputs
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.results import baseline, cards, report, rows, tables
from alibench.results.cells import Gated
from tests.conftest import GATED, SETTINGS

CPU = torch.device("cpu")
Call = Callable[..., tuple[int, dict[str, Any], str]]
# the second one has a reference row for each seed
METRICS = "metrics=['reconstruction','neighbours','throughput']"


def machine(out: Path, models: list[str], first_seed: int = 0, seeds: int = 1) -> Path:
    """Train a part of a grid, as `alibench run` does, in this process."""
    (suite,) = loading.load("digits", [*SETTINGS, METRICS, f"first_seed={first_seed}"], models, seeds)
    runs = [f"digits-{name}-seed{seed}" for name in models for seed in suite.training_seeds]
    command = ("alibench", "run", "digits", "--models", *models, "--out", "elsewhere")
    out.mkdir(parents=True)
    outputs.write_plan(out, command, outputs.plan([suite], CPU, runs=runs, plugins={}))
    kinds = [("run", name, seed) for name in models for seed in suite.training_seeds]
    kinds += [("references", models[0], 0), *(("throughput", name, 0) for name in models)]
    for kind, name, seed in kinds:
        job = Job(kind, suite, name, seed, out, "cpu", command)  # type: ignore[arg-type]
        assert execute([job], lambda run_id, steps: None) == {job.run_id: OK}
    return out


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the outputs of one machine that trains a whole grid, and of others that train a part each."""
    folder = tmp_path_factory.mktemp("grid")
    return {
        "whole": machine(folder / "whole", ["ali", "vae"], seeds=2),
        "ali": machine(folder / "ali", ["ali"], seeds=2),
        "vae0": machine(folder / "vae0", ["vae"]),
        "vae1": machine(folder / "vae1", ["vae"], first_seed=1),
    }


@pytest.fixture
def parts(grid: dict[str, Path], tmp_path: Path) -> list[Path]:
    """Return copies of the machines' folders, to be changed."""
    return [Path(shutil.copytree(grid[name], tmp_path / name)) for name in ("ali", "vae0", "vae1")]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Collect; return the exit code, the facts, and what stood on stderr."""

    def called(*words: object) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(["collect", *map(str, words), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    return called


def bring(*folders: Path, out: Path | None = None, force: bool = False) -> dict[str, Any]:
    """Collect, without tables and report; return the facts."""
    with collecting.collected(folders, out, force, Console(quiet=True)) as collected:
        return collected.facts


def listing(*folders: Path) -> dict[Path, int]:
    """Return all that is below some folders but locks, with times."""
    paths = (path for folder in folders for path in folder.rglob("*") if path.name != ".lock")
    return {path: path.lstat().st_mtime_ns for path in paths}


def measured(out: Path) -> pd.DataFrame:
    """Return the rows that do not depend on how quick a machine is."""
    frame = rows.read(out)
    return frame[frame.kind != "timing"].reset_index(drop=True)


def planned(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the plan of a folder, checksum and all."""
    plan = outputs.read_plan(out)
    change(plan)
    outputs.write_plan(out, plan.pop("command"), plan)


def worse(folder: Path) -> None:
    """Change a number of a run, as another machine may have it, checksum and all."""
    own = rows.read_run(folder)
    first = next(row for row in own if row["kind"] == "quality" and row["value"])
    rows.keep(
        folder, rows.read_origin(folder), [{**row, "value": 7.0} if row is first else row for row in own]
    )


# -------------------- as if one had trained all


def test_parts_of_a_grid_make_the_tables_of_the_whole(
    grid: dict[str, Path], tmp_path: Path, call: Call
) -> None:
    before = listing(*grid.values())
    out = tmp_path / "out"
    code, facts, _ = call(grid["ali"], grid["vae0"], grid["vae1"], "--out", out)
    assert code == 0
    assert {key: facts[key] for key in ("out", "collected", "there_already", "duplicates", "missing")} == {
        **{"out": str(out), "collected": 4 + 1 + 2, "there_already": 0},
        **{"duplicates": 1, "missing": []},  # the speed of the second model, which two machines have
    }
    assert listing(*grid.values()) == before
    whole, collected = measured(grid["whole"]), measured(out)
    key = list(rows.KEY)
    pd.testing.assert_frame_equal(
        *(frame.sort_values(key).reset_index(drop=True) for frame in (whole, collected)), check_exact=True
    )
    made = [tables.tables(frame) for frame in (whole, collected)]
    assert len(made[0]) > 3
    assert list(made[0]) == list(made[1])
    for name, sheet in made[0].items():
        pd.testing.assert_frame_equal(made[1][name].frame, sheet.frame)
        assert made[1][name].caption == sheet.caption
    assert facts["tables"].keys() == tables.tables(rows.read(grid["whole"])).keys()
    assert {path.name for path in (out / "figures").iterdir()} == {"digits-ali.png", "digits-vae.png"}
    assert "VAE" in (out / report.NAME).read_text()
    assert not [path for path in out.rglob("*") if path.name == jobs.LOCK and path.parent != out]


def test_lines_stand_in_the_order_that_folders_are_named_in(grid: dict[str, Path], tmp_path: Path) -> None:
    bring(grid["vae1"], grid["ali"], grid["vae0"], out=tmp_path / "out")
    frame = rows.read(tmp_path / "out")
    assert frame[tables.own(frame)].model.unique().tolist() == ["vae", "ali"]
    own = frame[frame.run_id.str.contains("-seed")].drop_duplicates("run_id")
    assert own.run_id.tolist() == [
        f"digits-{model}-seed{seed}" for model in ("vae", "ali") for seed in (0, 1)
    ]


def test_a_collection_is_resumed_by_the_command_of_the_whole(grid: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    bring(grid["ali"], grid["vae0"], grid["vae1"], out=out)
    (suite,) = loading.load("digits", [*SETTINGS, METRICS], ["ali", "vae"], 2)
    given = outputs.Destination(out, resume=True)
    assert outputs.destined(given, "digits", outputs.plan([suite], CPU, plugins={})) == out
    (other,) = loading.load("digits", [*SETTINGS, METRICS], ["ali"], 2)
    with pytest.raises(BadInput, match=r"digits\.models \(\['ali', 'vae'\], now \['ali'\]\)"):
        outputs.destined(given, "digits", outputs.plan([other], CPU, plugins={}))


def test_the_gate_judges_the_seeds_of_all_machines(grid: dict[str, Path], tmp_path: Path) -> None:
    out, gated = tmp_path / "out", [Gated("reconstruction_error", "mean code")]
    bring(grid["vae1"], grid["vae0"], out=out)
    (cell,) = baseline.collect(out, "digits", gated, ["vae"]).cells
    (of_all,) = (
        c for c in baseline.collect(grid["whole"], "digits", gated, ["ali", "vae"]).cells if c.model == "vae"
    )
    assert cell.by_seed == of_all.by_seed
    assert list(cell.by_seed) == [0, 1]


# -------------------- again, and after a kill


def test_a_second_time_changes_no_run_and_more_folders_are_added(
    grid: dict[str, Path], tmp_path: Path
) -> None:
    def counts(*folders: Path) -> tuple[int, int, int]:
        facts = bring(*folders, out=out)
        return facts["collected"], facts["there_already"], facts["duplicates"]

    out = tmp_path / "out"
    assert counts(grid["vae1"]) == (3, 0, 0)
    before = listing(out)
    assert counts(grid["vae1"]) == (0, 3, 0)
    assert listing(out) == before
    assert counts(grid["ali"], grid["vae0"]) == (4, 3, 0)
    key = list(rows.KEY)
    frames = (measured(folder).sort_values(key).reset_index(drop=True) for folder in (grid["whole"], out))
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    references = out / "runs" / "digits-references"
    (other,) = rows.read_origin(references)["merged"]
    assert other["command"] == rows.read_origin(grid["ali"] / "runs" / "digits-references")["command"]
    changed = {path for path, time in listing(out).items() if path in before and time != before[path]}
    assert changed == {
        out / "plan.json",
        out / "runs",
        references,
        references / "rows.json",
        references / "run.json",
    }


def test_a_collection_that_was_killed_holds_nothing_half_and_goes_on(
    grid: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, copied, copy = tmp_path / "out", [0], collecting._copy_file
    parts = [grid[name] for name in ("ali", "vae0", "vae1")]

    def killed(source: str, to: str) -> None:
        copied[0] += 1
        if copied[0] == 8:  # in the midst of the second run
            Path(to).write_bytes(Path(source).read_bytes()[:9])
            raise KeyboardInterrupt
        copy(source, to)

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "_copy_file", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # whoever is killed removes nothing
        with pytest.raises(KeyboardInterrupt):
            bring(*parts, out=out)
    assert [path.name for path in (out / "runs").iterdir()] == ["digits-ali-seed0"]
    assert len(list(out.glob(".*.part"))) == 1
    assert bring(*parts, out=out)["there_already"] == 1
    assert not list(out.rglob("*.part"))
    key = list(rows.KEY)
    frames = (measured(folder).sort_values(key).reset_index(drop=True) for folder in (grid["whole"], out))
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_damaged_run_of_the_collection_is_copied_again(grid: dict[str, Path], tmp_path: Path) -> None:
    bring(grid["ali"], out=tmp_path / "out")
    runs = tmp_path / "out" / "runs"
    (runs / "digits-ali-seed0" / "rows.json").write_text("{")
    (runs / "digits-ali-seed1" / "rows.json").unlink()
    assert bring(grid["ali"], out=tmp_path / "out")["collected"] == 2
    assert rows.read(tmp_path / "out").equals(rows.read(grid["ali"]))


# -------------------- what does not go together


def test_equal_runs_are_kept_once_and_other_numbers_are_refused(
    grid: dict[str, Path], parts: list[Path], tmp_path: Path
) -> None:
    facts = bring(grid["whole"], grid["ali"], out=tmp_path / "out")
    assert (facts["collected"], facts["duplicates"]) == (7, 3)
    speed = "runs/digits-ali-throughput/rows.json"
    assert (tmp_path / "out" / speed).read_bytes() == (grid["whole"] / speed).read_bytes()
    for run in ("digits-ali-seed1", "digits-references"):
        worse(parts[0] / "runs" / run)
        for force in (False, True):
            with pytest.raises(BadInput) as refused:
                bring(grid["whole"], parts[0], out=tmp_path / "other", force=force)
            told = str(refused.value)
            assert f"run '{run}' has other numbers in {parts[0]} than in {grid['whole']}: " in told
            assert re.search(r"reconstruction.*\.value \(.+, there 7\.0\)", told)
            assert not (tmp_path / "other").exists()
        shutil.rmtree(parts[0] / "runs" / run)
        shutil.copytree(grid["ali"] / "runs" / run, parts[0] / "runs" / run)


def test_what_was_made_otherwise_is_collected_only_by_force(
    parts: list[Path], tmp_path: Path, call: Call
) -> None:
    _, vae0, vae1 = parts
    planned(vae1, lambda plan: plan["versions"].update(torch="1.0"))
    code, facts, told = call(vae0, vae1, "--out", tmp_path / "out")
    assert (code, told) == (2, f"alibench: {facts['error']}\n")
    assert f"{vae0} and {vae1} were not made alike: torch ({torch.__version__!r}, there '1.0'); " in told
    assert not (tmp_path / "out").exists()
    bring(vae0, vae1, out=tmp_path / "out", force=True)
    for of in (vae0, vae1):
        run = f"runs/digits-vae-seed{of.name[-1]}/run.json"
        assert (tmp_path / "out" / run).read_bytes() == (of / run).read_bytes()


# -------------------- what is missing


def test_one_folder_is_collected_where_it_is(parts: list[Path], call: Call) -> None:
    ali = parts[0]
    before = listing(ali / "runs")
    code, facts, _ = call(ali)
    assert (code, facts["out"], facts["collected"], facts["there_already"]) == (0, str(ali), 0, 4)
    assert listing(ali / "runs") == before
    assert (ali / "tables" / "digits-quality.md").exists()
    assert Path(facts["report"]).exists()


def test_damaged_and_unfinished_runs_are_left_out_and_the_command_that_trains_them_is_told(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ali, vae, _ = parts
    (ali / "runs" / "digits-ali-seed0" / "rows.json").unlink()
    damaged = ali / "runs" / "digits-ali-seed1" / "run.json"
    damaged.write_text(damaged.read_text().replace("digits", "digit", 1))
    words = ["collect", str(ali), str(vae), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert (
        f"1 runs are not finished, and left out: {damaged.parents[1] / 'digits-ali-seed0'}\n" in captured.err
    )
    assert f"alibench: {damaged} is damaged: run this run again\n" in captured.err
    line = captured.out.splitlines()[-1]
    assert line.startswith(
        "2 of 3 runs are missing (digits-ali-seed0, digits-ali-seed1); train them and collect again: "
    )
    assert line.endswith(f"alibench run digits --models ali --out {ali} --resume")
    assert set(rows.read(tmp_path / "out").run_id) == {
        *("digits-vae-seed0", "digits-references", "digits-ali-throughput", "digits-vae-throughput")
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere holds no runs: name a folder that 'alibench run --out' made"),
        (["ali", "older"], "older has no plan.json: leave it out"),
        (["edited"], "plan.json is damaged: leave edited out"),
        (["ali", "./ali"], "the same folder is named twice: ali"),
        (["ali", "vae0", "--out", "ali"], "--out ali is one of the folders to collect: name a new one"),
        (["ali", "--out", "vae0"], "--out vae0 was trained in: name a new folder, and vae0 next to"),
        (["ali", "--out", "taken"], "--out taken holds files that are not a collection: name a new folder"),
        (["ali", "--out", "taken/mine"], "Directory 'taken/mine' is a file"),
        (["begun"], "begun: no run is finished (1 are unfinished): finish or repeat them"),
        (["trials"], "is of suite 'digits', which trials was not begun with"),
    ],
)
def test_what_cannot_be_collected_is_refused_in_a_line(
    words: list[str],
    told: str,
    parts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("older", "edited", "begun", "trials"):
        shutil.copytree(parts[0], name)
    Path("older/plan.json").unlink()
    Path("edited/plan.json").write_text(Path("edited/plan.json").read_text().replace("ali", "aly", 1))
    shutil.rmtree("begun/runs")
    Path("begun/runs/digits-ali-seed0/checkpoints").mkdir(parents=True)
    planned(
        Path("trials"),
        lambda plan: plan.update(suites={"toy": {**plan["suites"].pop("digits"), "name": "toy"}}),
    )
    Path("taken").mkdir()
    Path("taken/mine").write_text("mine")
    before = listing(tmp_path)
    code, facts, said = call(*words)
    assert (code, said.count("\n")) == (2, 1)
    assert told in facts["error"]
    assert listing(tmp_path) == before


def test_a_folder_that_another_writes_to_is_left_alone(parts: list[Path], tmp_path: Path, call: Call) -> None:
    (tmp_path / "out").mkdir()
    with files.locked(tmp_path / "out" / outputs.LOCK):
        code, facts, _ = call(*parts, "--out", tmp_path / "out")
    assert (code, "is being written to by another process" in facts["error"]) == (2, True)


def test_of_thousands_of_seeds_the_page_draws_the_first_and_says_so(
    grid: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Training, 2 seeds, a line each." in report.page([grid["ali"]])[0]
    monkeypatch.setattr(cards, "CURVES", 1)
    assert "Training, the first seed 0." in report.page([grid["ali"]])[0]


# -------------------- by commands alone


@pytest.mark.commands
@pytest.mark.whole
@pytest.mark.usefixtures("here")
def test_outputs_of_two_machines_are_collected_gated_and_resumed(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.toml", tmp_path / "out"
    mine.write_text(GATED)
    words = ["regression", str(mine), "--update-baseline", "--seeds", "20", "--out", str(tmp_path / "base")]
    assert main(words) == 0
    for first, seeds in ((700, 3), (703, 2)):
        words = ["run", str(mine), "--device", "cpu", "--set", f"first_seed={first}", "--seeds", str(seeds)]
        assert main([*words, "--out", str(tmp_path / f"m{first}")]) == 0
    assert main(["collect", str(tmp_path / "m703"), str(tmp_path / "m700"), "--out", str(out)]) == 0
    assert main(["regression", str(mine), "--from", str(out), "--out", str(tmp_path / "judged")]) == 0
    assert json.loads((tmp_path / "judged" / "gate.json").read_text())["seeds"] == [700, 701, 702, 703, 704]
    before = listing(out / "runs")
    words = ["run", str(mine), "--device", "cpu", "--set", "first_seed=700", "--seeds", "5"]
    words += ["--out", str(out)]
    assert main([*words, "--resume"]) == 0
    assert listing(out / "runs") == before  # all were finished
    for command in (["table"], ["report"], ["tables", "--out", str(tmp_path / "papers"), "--from"]):
        assert main([*command, str(out)]) == 0


def test_a_file_that_claims_more_than_the_disk_holds_is_not_copied(
    parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (curves,) = (parts[1] / "runs").glob("*/curves.csv")
    with curves.open("r+b") as file:
        file.truncate(10**9)  # sparse: it takes no room here
    free = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    with pytest.raises(BadInput, match=r"needs about 1\.0 GB, 0\.1 GB are free: make room or name a folder"):
        bring(*parts, out=tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_model_trained_at_anothers_compute_goes_with_that_other_as_it_was(
    parts: list[Path], tmp_path: Path
) -> None:
    def equal_compute(plan: dict[str, Any]) -> None:
        plan["suites"]["digits"]["model"]["vae"] = {"compute": "ali"}

    def longer(plan: dict[str, Any]) -> None:
        plan["suites"]["digits"]["model"]["ali"] = {"recipe": {"steps": 7}}

    for part in parts[1:]:
        planned(part, equal_compute)
    bring(*parts, out=tmp_path / "all")
    planned(parts[0], longer)
    with pytest.raises(BadInput, match=r"were not made alike: .*ali"):
        bring(*parts, out=tmp_path / "others")
