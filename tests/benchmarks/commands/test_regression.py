"""`alibench regression` from training to exit code, on a user's own suite."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from alibench.benchmarks.commands import regression
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.evaluation.errors import BadInput
from alibench.results import baseline, rows
from tests.conftest import GATED, in_this_process

OWN = {"reference": "", "note": ""}  # of a row that is the model's own


def call(*arguments: object) -> int:
    with in_this_process():
        return main(["regression", *map(str, arguments), "--device", "cpu"])


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of the user's with a baseline of twenty seeds beside it."""
    path = tmp_path_factory.mktemp("mine") / "mine.toml"
    path.write_text(GATED)
    assert call(path, "--update-baseline", "--seeds", 20, "--out", path.parent / "baseline-runs") == 0
    return path


@pytest.fixture(scope="module")
def fresh(mine: Path) -> Path:
    """Five fresh seeds of it, judged."""
    out = mine.parent / "fresh"
    assert call(mine, "--seeds", 5, "--first-seed", 700, "--out", out) == 0
    return out


def test_programs_are_told_the_decision(
    mine: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code in ((["--from", fresh, "--out", tmp_path / "out"], 0), (["--from", tmp_path], 2)):
        assert call(mine, *words, "--json") == code
        told = json.loads(capsys.readouterr().out)
        assert told["exit_code"] == code
        assert ("error" in told) == bool(code)
        if not code:
            stored = json.loads((tmp_path / "out" / "gate.json").read_text())
            assert {key: told[key] for key in stored} == stored


def test_a_users_own_suite_passes_on_fresh_seeds(mine: Path, fresh: Path) -> None:
    stored = baseline.read(mine.with_name("mine.baseline.json"))
    assert stored.seeds == list(range(20))
    assert stored.origin["command"][0].startswith("alibench")
    decision = json.loads((fresh / "gate.json").read_text())
    assert decision["passed"] is True
    assert decision["seeds"] == [700, 701, 702, 703, 704]
    assert [cell["verdict"] for cell in decision["cells"]] == ["unchanged"]
    assert "**passed**: 1 cells" in (fresh / "gate.md").read_text()


def lose(folder: Path) -> None:
    """Make a run one that diverged."""
    origin, measured = rows.read_origin(folder), rows.read_run(folder)
    run = rows.Run(**{name: origin[name] for name in rows.Run.__dataclass_fields__})
    rows.write(
        folder,
        run,
        [{**r, "value": None, "status": "diverged", "reason": "not finite", **OWN} for r in measured],
        origin,
    )


def worse(source: Path, to: Path, seeds: Sequence[int], factor: float) -> Path:
    """Copy runs, with the numbers of some seeds changed as a bug would, checksums and all."""
    shutil.copytree(source, to)
    for folder in (to / "runs").glob("*"):
        origin, measured = rows.read_origin(folder), rows.read_run(folder)
        if origin["seed"] in seeds:
            run = rows.Run(**{name: origin[name] for name in rows.Run.__dataclass_fields__})
            for row in measured:
                row |= {"value": row["value"] and row["value"] * factor, **OWN}
            rows.write(folder, run, measured, origin)
    return to


def test_a_regression_a_bad_seed_and_an_improvement_are_told_apart(
    mine: Path, fresh: Path, tmp_path: Path
) -> None:
    for name, seeds, factor, code, verdict in (
        ("regression", range(700, 705), 3.0, 1, "regression"),
        ("bad seed", [702], 20.0, 1, None),
        ("improvement", range(700, 705), 1 / 3, 0, "improvement"),
    ):
        source = worse(fresh, tmp_path / name / "runs-of-it", seeds, factor)
        assert call(mine, "--from", source, "--out", tmp_path / name / "out") == code
        (cell,) = json.loads((tmp_path / name / "out" / "gate.json").read_text())["cells"]
        assert verdict in (None, cell["verdict"])
        if name == "bad seed":
            assert list(cell["bad_seeds"]) == ["702"]


def test_a_run_that_is_missing_fails(mine: Path, fresh: Path, tmp_path: Path) -> None:
    source = tmp_path / "runs"
    shutil.copytree(fresh, source)
    shutil.rmtree(next((source / "runs").glob("*seed702")))
    assert call(mine, "--from", source, "--out", tmp_path / "out") == 1
    (cell,) = json.loads((tmp_path / "out" / "gate.json").read_text())["cells"]
    assert "1 of 5 seeds have no number (seed 702" in cell["reason"]


def test_runs_that_all_diverge_fail_by_name(
    mine: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "runs"
    shutil.copytree(fresh, source)
    for folder in (source / "runs").glob("*"):
        lose(folder)
    assert call(mine, "--from", source, "--out", tmp_path / "out") == 1
    assert "5 of 5 seeds have no number (seed 700: diverged: not finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1"], "the gate needs at least 3"),
        (["--first-seed", "15"], "the same seeds (15, 16, 17, 18 and 1 more)"),
        (["--set", "steps=4"], "other settings (recipe.steps)"),
        (["--set", "dataset=grid25"], "other data ('grid25_easy'"),
        (["--baseline", "nowhere.json"], "baseline nowhere.json cannot be read"),
        (["--from", "nowhere"], "nowhere holds no runs"),
        (["--set", "gate=[]"], "has no [[gate]] tables"),
        (["--first-seed", "-3"], "first_seed"),
        (["--seeds", "0"], "Expected 'int' >= 1 - at 'seeds'"),
        (["--update-baseline", "--baseline", f"{__file__}/x.json"], "is, or lies in, a file"),
    ],
)
def test_misuse_is_said_in_a_line_before_anything_is_trained(
    mine: Path, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(mine, "--seeds", "5", *arguments, "--out", out) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not out.exists()


def test_an_update_prints_what_changes_and_replaces_the_file_whole(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copy.json"
    shutil.copy(mine.with_name("mine.baseline.json"), path)
    before = path.read_text()
    source = worse(mine.parent / "baseline-runs", tmp_path / "worse", range(20), 2.0)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert call(mine, "--update-baseline", "--from", source, "--baseline", path) == 2
        assert path.read_text() == before
    assert "(No space left on device)" in capsys.readouterr().err
    assert call(mine, "--update-baseline", "--from", source, "--baseline", path) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| autoencoder")]
    _, _, _, was, now, _ = (part.strip() for part in row.split("|"))
    assert float(now.split()[0]) == pytest.approx(2 * float(was.split()[0]), rel=1e-3)
    (was_stored,), (now_stored,) = (
        baseline.read(file).cells for file in (mine.with_name("mine.baseline.json"), path)
    )
    assert now_stored.numbers == pytest.approx(2 * was_stored.numbers)


def test_a_damaged_baseline_is_replaced_by_an_update_and_by_nothing_else(
    mine: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "copy.json"
    path.write_text(mine.with_name("mine.baseline.json").read_text()[:-40])
    assert call(mine, "--from", fresh, "--baseline", path, "--out", tmp_path / "out") == 2
    assert "is damaged, or was edited by hand" in capsys.readouterr().err
    assert call(mine, "--update-baseline", "--from", mine.parent / "baseline-runs", "--baseline", path) == 0
    assert path.read_text() == mine.with_name("mine.baseline.json").read_text()


def test_fresh_seeds_come_from_the_commit_and_lie_beyond_those_of_tables() -> None:
    seed = regression.fresh_seed()
    low, high = regression.FRESH
    assert low <= seed < high
    if not regression.provenance.commit().startswith("no checkout"):
        assert seed == regression.fresh_seed()


def test_the_gate_of_the_project_is_judged_by_the_committed_baseline() -> None:
    (suite,) = loading.load("gate")
    stored = baseline.read(regression.place("gate"))
    loaded = suite.load()
    planned = baseline.planned(suite.name, loaded.name, loaded.sha256, asdict(suite), suite.gate)
    with pytest.raises(BadInput, match="same seeds"):  # all else agrees
        baseline.check(stored, planned, regression.place("gate"))
    assert len(planned.cells) <= 40
    assert len(stored.seeds) >= 20
