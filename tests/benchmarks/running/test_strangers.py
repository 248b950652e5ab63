"""What a stranger's output may hold: each kind of it is one line, writes nothing elsewhere and becomes no
number.

tests/faults/test_strangers.py opens a thousand inputs of all kinds; here each kind has one example.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.running.interpreters import inherited
from alibench.evaluation import files
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.messages import say
from alibench.results import formats, rows, stored
from tests.conftest import origin
from tests.strangers import body_of, listing, rewrite, within

RUN = "digits-ali-seed0"


def run_of(out: Path, seed: int = 0, **more: Any) -> Path:
    """Store a run with one number."""
    folder = out / "runs" / f"digits-ali-seed{seed}"
    folder.mkdir(parents=True)
    run = rows.Run(folder.name, "digits", "ali", "ALI", "digits", seed, 10, "ema")
    number = Measurement("reconstruction_error", 0.25 + seed, n=355, split="test", protocol="mean code")
    rows.write(folder, run, [asdict(number)], origin("digits", ["ali", "vae"], **more))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output of one run, with its plan."""
    folder = tmp_path / "out"
    run_of(folder)
    begun = {
        "command": ["alibench", "run", "digits"],
        "suites": {"digits": origin("digits", ["ali", "vae"])["config"]},
    }
    stored.write(
        folder, stored.PLAN, {**begun, "data": {}, "device": "cpu", "versions": {}, "code": {}, "runs": [RUN]}
    )
    return folder


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command is refused by, within seconds."""
    capsys.readouterr()
    with within(20):
        assert main(words) == 2
    *_, line = capsys.readouterr().err.splitlines()
    return line


# -------------------- names, links, pipes


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", "a/b", "", ".hidden", "x" * 200])
@pytest.mark.parametrize("key", ["run_id", "suite", "model"])
def test_a_name_that_would_become_a_path_is_refused(
    key: str, name: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = out / "runs" / RUN / "run.json"
    body = body_of(path)
    config = {"suite": {**body["config"], "name": name}, "model": {**body["config"], "models": [name]}}
    rewrite(path, {**body, key: name, "config": config.get(key, body["config"])})
    before = listing(tmp_path)
    for words in (["table", str(out)], ["tables", "--from", str(out), "--out", str(tmp_path / "new")]):
        assert str(path) in refused(words, capsys)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("key", ["run_id", "suite"])
def test_rows_are_those_of_their_run(key: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = out / "runs" / RUN / "rows.json"
    rewrite(path, [{**row, key: "another"} for row in body_of(path)])
    assert "another" in refused(["table", str(out)], capsys)


@pytest.mark.parametrize("name", ["tables", "figures", "runs"])
def test_a_link_in_an_output_is_not_written_through(
    name: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    if (out / name).exists():
        (out / name).rename(mine)
    else:
        mine.mkdir()
    (out / name).symlink_to(mine, target_is_directory=True)
    before = listing(mine)
    for command in ("table", "collect", "report"):
        assert f"{out / name} is a symbolic link" in refused([command, str(out)], capsys)
    assert listing(mine) == before


def test_a_lock_that_is_a_link_does_not_empty_what_it_points_to(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").write_text("mine")
    (out / ".lock").symlink_to(tmp_path / "thesis")
    assert ".lock" in refused(["collect", str(out)], capsys)
    assert (tmp_path / "thesis").read_text() == "mine"


def test_what_a_link_points_to_is_not_collected(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(out, seed=1)
    (tmp_path / "secret").write_text("a key")
    (out / "runs" / RUN / "notes").symlink_to(tmp_path / "secret")
    assert main(["collect", str(out), "--out", str(tmp_path / "all")]) == 1  # the run is missing
    assert "notes is neither a file nor a folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "all/runs").iterdir()] == ["digits-ali-seed1"]


@pytest.mark.parametrize(
    "name", [f"runs/{RUN}/run.json", f"runs/{RUN}/rows.json", f"runs/{RUN}/curves.csv", "plan.json"]
)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    name: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(out, seed=1)  # which is whole
    (out / name).unlink(missing_ok=True)
    os.mkfifo(out / name)
    with within(20):
        assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert str(out / name) in capsys.readouterr().err


def test_more_than_may_be_read_is_refused_with_the_limit(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = out / "runs" / RUN / "rows.json"
    with path.open("ab") as file:
        file.truncate(files.LARGEST["text"] + 10)
    assert f"more than 64.0 MB: if you trust it, set {files.LIMIT}=2" in refused(["table", str(out)], capsys)
    monkeypatch.setenv(files.LIMIT, "2")
    assert "rows.json is damaged" in refused(["table", str(out)], capsys)  # it was read


def test_a_plan_of_a_thousand_million_seeds_is_not_counted_out(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = body_of(out / "plan.json")
    plan["suites"]["digits"]["seeds"] = 10**9
    del plan["runs"]
    rewrite(out / "plan.json", plan)
    assert "its plan asks for 2,000,000,000 runs" in refused(["collect", str(out)], capsys)


# -------------------- what is another's


def test_only_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (".thesis.tex.part", ".a.part", ".b.0123.host-1.part"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".backup.part").mkdir()
    (tmp_path / ".backup.part" / "kept").write_text("mine")
    ours = files.part_of(tmp_path / "rows.json")
    ours.write_text("half")
    before = listing(tmp_path)
    files.remove_parts(tmp_path)
    assert {name: state for name, state in before.items() if name != ours.name} == listing(tmp_path)


def test_a_name_of_the_longest_kind_has_room_for_its_part(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127):
        files.replace(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, 1e300])
def test_what_is_not_a_number_has_no_status_ok_when_written(value: float | None, tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    run = rows.Run(folder.name, "digits", "ali", "ALI", "digits", 0, 10, "ema")
    rows.write(folder, run, [asdict(Measurement("fid", value))], origin("digits", ["ali"]))
    (row,) = rows.read_run(folder)
    assert (row["status"], row["value"]) == ("refused", None)
    assert row["reason"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"1.5"', "1e999", "1e300", "true", "[1]"])
def test_what_is_not_a_number_and_says_ok_is_damage_when_read(
    value: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = out / "runs" / RUN / "rows.json"
    rewrite(path, [{**row, "value": json.loads(value)} for row in body_of(path)])
    assert str(path) in refused(["table", str(out)], capsys)


@pytest.mark.parametrize("how", ["copied", "renamed"])
def test_a_run_counts_once_and_by_its_own_name(
    how: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(out, seed=1)
    folder = out / "runs" / RUN
    other = folder.with_name("digits-ali-seed7")
    shutil.copytree(folder, other) if how == "copied" else folder.rename(other)
    said = f"{other} holds the run '{RUN}': give the folder that name again, or remove it if it is a copy"
    assert said in refused(["table", str(out)], capsys)
    for words in (["report", str(out)], ["collect", str(out), "--out", str(tmp_path / "all")]):
        assert main(words) == int(how == "renamed" and words[0] == "collect")
        assert said in capsys.readouterr().err
    counted = pd.read_csv(tmp_path / "all" / "rows.csv").value.tolist()
    assert counted == ([0.25, 1.25] if how == "copied" else [1.25])


def test_a_changed_digit_of_a_curve_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "phase,step,loss d\ngame,10,1.5\n"
    digest = {"curves_sha256": files.sha256_of(text)}
    folder = run_of(tmp_path / "out", **digest)
    for written, said in (
        (text, ""),
        (text.replace("1.5", "9.5"), "curves.csv is not what its run wrote: no curves of seed 0"),
    ):
        (folder / "curves.csv").write_text(written)
        assert main(["report", str(tmp_path / "out")]) == 0
        assert said in (err := capsys.readouterr().err)
        assert bool(said) == bool(err)


def test_a_changed_digit_of_a_plan_is_noticed(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = out / "plan.json"
    path.write_text(path.read_text().replace(RUN, "digits-ali-seed9"))
    for command in ("report", "table"):
        assert main([command, str(out)]) == 0
        assert f"{path} is damaged" in capsys.readouterr().err


# -------------------- what is shown


@pytest.mark.parametrize("text", ["\x1b[31mred", "two\nlines", "a\x07bell", "\u202eback", "\x9b31m"])
def test_a_title_that_steers_a_terminal_is_refused(
    text: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = out / "runs" / RUN / "rows.json"
    rewrite(path, [{**row, "title": text} for row in body_of(path)])
    line = refused(["table", str(out)], capsys)
    assert text not in line
    assert str(path) in line


@pytest.mark.parametrize("text", ["two\\nlines", "\\u001b[31mred", "a\\ttab"])
@pytest.mark.parametrize("key", ["title", "model.vae.title"])
def test_a_title_that_no_row_could_hold_is_refused_before_anything_is_trained(
    key: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "digits", "--models", "vae", "--device", "cpu", "--set", f'{key}="{text}"']
    words += ["--out", str(tmp_path / "out")]
    assert "is not one line of plain text: rename it" in refused(words, capsys)
    assert not list(tmp_path.iterdir())


def test_a_setting_that_could_not_be_read_again_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "digits", "--models", "vae", "--device", "cpu", "--set", 'source="\\u001b[31m"']
    assert "could not be read again" in refused([*words, "--out", str(tmp_path / "out")], capsys)
    assert not list(tmp_path.iterdir())


def test_a_class_folder_that_no_header_could_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("plain", "\x1b[31mred"):
        (tmp_path / name).mkdir()
        for i in range(30):
            Image.fromarray(np.full((8, 8), 8 * i, np.uint8)).save(tmp_path / name / f"{i}.png")
    line = refused(["run", f"folder:{tmp_path}", "--dry-run", "--device", "cpu"], capsys)
    assert "is not plain text: rename it" in line
    assert "\x1b" not in line


def test_a_pipe_in_the_place_of_a_plug_in_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "model.py")
    assert "not a file" in refused(["list", "--plugin", str(tmp_path / "model.py")], capsys)


def test_messages_have_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    say("a file called \x1b]0;title\x07 and \u202e")
    assert capsys.readouterr().err == "alibench: a file called \\x1b]0;title\\x07 and \\u202e\n"


def test_markdown_shows_cells_as_they_are_and_keeps_its_columns() -> None:
    cells = [
        "<img src=x onerror=alert(1)>",
        "a | b",
        "[click](http://x)",
        "`code`",
        "two\nlines",
        "back\\slash",
    ]
    shown = formats.table(pd.DataFrame({"a | b": cells}, pd.Index(cells, name="<model>")))
    lines = shown.splitlines()
    assert len(lines) == 2 + len(cells)
    assert all(len(line.replace("\\|", "").strip("|").split("|")) == 2 for line in lines)
    assert "\\<img" in shown
    assert "\\[click\\]" in shown
    assert "two lines" in shown


def test_csv_holds_no_formula_and_every_number_as_it_is() -> None:
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\tx", "-1 and more"]
    numbers = ["-0.53", "+4.00 ± 2.83", "-1.2e-05", "+1.0 (-2.0 to 3.5)", "12.3†", "", "ALI", "−1"]
    frame = pd.DataFrame(
        {"=cell": [*texts, *numbers], "value": np.arange(14) - 7.5},
        pd.Index([*texts, *numbers], name="model"),
    )
    back = pd.read_csv(io.StringIO(formats.csv(frame)), keep_default_na=False)
    assert back["'=cell"].tolist() == [*(f"'{text}" for text in texts), *numbers]
    assert back.model.tolist() == [*(f"'{text}" for text in texts), *numbers]
    assert back.value.tolist() == frame.value.tolist()


# -------------------- interpreters


def test_an_interpreter_that_we_start_imports_nothing_from_where_it_starts(tmp_path: Path) -> None:
    for module in ("pickle", "struct", "socket"):
        (tmp_path / f"{module}.py").write_text(
            "open('ran', 'w')\nraise SystemExit('a module of the working folder')\n"
        )
    code = (
        "from multiprocessing.spawn import spawn_main; import pickle, struct, socket; print(pickle.__file__)"
    )
    with inherited({}):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
