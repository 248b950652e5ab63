"""Manners of the command line: help that can be pasted, the name that was meant, JSON, dry runs, completion,
quiet logs.
"""

import argparse
import io
import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alibench import results
from alibench.benchmarks.commands import arguments
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import compute, loading
from alibench.benchmarks.running import forecast, outputs, space, timing
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.local import Local
from alibench.evaluation.metrics import METRICS
from alibench.models import REGISTRY
from tests.benchmarks.commands.test_cli import pictures
from tests.benchmarks.config.test_plugins import nothing_left_behind
from tests.conftest import TINY

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
SUITE = """
title = "Mine"
source = "me"
expect = "seconds"
dataset = "grid25_easy"
networks = "plane"
latent = 2
models = ["vae"]
metrics = ["reconstruction"]
[recipe]
steps = 3
[[gate]]
metric = "reconstruction_error"
protocol = "mean code"
"""
PLUGIN = """
from alibench.models.bigan import BiGAN
class Mine(BiGAN):
    name, title, source = "mine", "Mine", "me"
"""
SMALL = ["--set", "metrics=['reconstruction']", "--set", "steps=10"]
FEW = {"run": SMALL, "tune": [*SMALL, "--set", "search.judged_by=['reconstruction_error']"], "evaluate": []}


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    (found,) = (a for a in arguments.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


COMMANDS = list(commands())


def call(words: list[str]) -> tuple[int, str, str]:
    """Run a command; return its exit code and what it prints on stdout and stderr, no terminals."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def strict(text: str) -> Any:
    """Read the one JSON document that a text is, without NaN and infinities."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def listing(*folders: Path) -> dict[Path, int]:
    """All that is below some folders, with times."""
    return {
        path: path.lstat().st_mtime_ns
        for folder in folders
        for path in (folder, *folder.rglob("*"))
        if path.exists()
    }


@pytest.fixture
def place(tmp_path: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with all that examples name: suites, pictures, a model, and the runs of an earlier command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "MOMENT", 0.0)
    run = "digits-ali-seed0"
    shutil.copytree(quick / "runs" / run, tmp_path / "out" / "runs" / run)
    pictures(tmp_path / "pictures", 8, 1, each=80)
    (tmp_path / "mine.toml").write_text(SUITE)
    (tmp_path / "my_model.py").write_text(PLUGIN)
    with nothing_left_behind():
        yield tmp_path


# ------------------------------------------------------------------------------------------------ help


def examples(text: str) -> list[str]:
    """Return the commands of a help's last block, or the last but one."""
    block = text.partition("\nexamples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in block.splitlines()]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_fits_80_columns_and_ends_with_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    lines = examples(text)
    assert 2 <= len(lines) <= 4
    assert all(line.startswith(f"alibench {command}".rstrip()) for line in lines)
    assert text.rstrip().endswith("--resume goes on" if not command else lines[-1])
    if not command:
        told = re.findall(r"^  (\d+)(?:, (\d+))?  ", text, re.M)
        assert told == [*((c, "") for c in "0123"), ("130", "143"), ("141", "")]
        page = (ROOT / "docs" / "command-line.md").read_text()
        assert re.findall(r"^\| (\d+)(?:, (\d+))? \| ", page, re.M) == told


def test_every_example_parses() -> None:
    for sub in commands().values():
        for line in examples(sub.format_help()):
            arguments.parser().parse_args(shlex.split(line.partition(" > ")[0], comments=True)[1:])


@pytest.mark.commands
@pytest.mark.whole
def test_every_example_parses_and_its_dry_run_passes_and_writes_nothing(place: Path) -> None:
    runs = Path(results.__file__).parent / "runs"
    before = listing(place, runs)
    tried = set()
    for name, sub in commands().items():
        for line in examples(sub.format_help()):
            words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
            given = arguments.parser().parse_args(words)
            if "dry_run" in given and words[0] != "regression":
                code, _, said = call([*words, "--dry-run", *FEW[name]])
                assert code == 0, said
                tried.add(name)
    assert tried == FEW.keys()
    assert listing(place, runs) == before


# -------------------- the name that was meant

MISSPELT = {
    "command": (["rnu", "quick"], "run"),
    "option": (["run", "digits", "--seds", "3"], "--seeds"),
    "option and value": (["tune", "digits", "--model=ali"], "--models"),
    "option of another spelling": (["run", "digits", "-seeds", "3"], "--seeds"),
    "choice": (["run", "digits", "--precision", "fp23"], "fp32"),
    "shell": (["completion", "bsh"], "bash"),
    "suite": (["run", "digts"], "digits"),
    "suite to be tuned": (["tune", "digts"], "digits"),
    "suite to be gated": (["regression", "gaet"], "gate"),
    "model": (["run", "digits", "--models", "bgian"], "bigan"),
    "metric": (["run", "digits", "--set", "metrics=['fidelty']"], "fidelity"),
    "metric of an evaluation": (["evaluate", "out", "--metrics", "reconstuction"], "reconstruction"),
    "data set": (["run", "digits", "--data", "digts"], "digits"),
    "data set of the suite": (["run", "digits", "--set", "dataset=celebA"], "celeba"),
    "data set to fit to": (["fit-extractor", "fashion-mnist"], "fashion_mnist"),
    "device": (["run", "digits", "--device", "cpuu"], "cpu"),
    "field": (["run", "digits", "--set", "stpes=3"], "steps"),
    "extractor": (["run", "digits", "--set", "evaluation.extractor=inceptoin"], "inception"),
}


@pytest.mark.parametrize("case", MISSPELT)
def test_a_misspelt_name_is_told_what_was_meant(case: str, place: Path) -> None:
    words, meant = MISSPELT[case]
    before = listing(place)
    code, out, said = call(words)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"alibench: .*did you mean '{re.escape(meant)}'\?.*\n", said)
    assert listing(place) == before


SETTINGS = {
    "of the suite": (["run", "digits", "--metrics", "fidelity"], """--set metrics='["A", "B"]'"""),
    "of the recipe": (["run", "digits", "--weight-decay=0.1"], "--set weight_decay=VALUE"),
    "of the evaluation": (["evaluate", "out", "--labels", "50"], "--set evaluation.labels=VALUE"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_is_given_as_an_option_is_told_as_a_setting(case: str) -> None:
    words, remedy = SETTINGS[case]
    code, _, said = call(words)
    assert code == 2
    assert f"(it is a setting: {remedy})" in said


def test_no_option_is_told_that_another_command_has(place: Path) -> None:
    for words in (["evaluate", "out", "--steps", "5"], ["table", "out", "--metrics", "svm"]):
        code, _, said = call(words)
        assert code == 2
        assert "did you mean" not in said
        assert "--set" not in said


def test_a_name_like_no_other_is_told_none() -> None:
    for words in (["zzz"], ["run", "digits", "--zzz"]):
        code, _, said = call(words)
        assert code == 2
        assert "did you mean" not in said


# ------------------------------------------------------------------------------------------------ JSON


def test_bad_input_is_a_json_document_beside_its_line() -> None:
    code, out, said = call(["run", "digts", "--json"])
    document = strict(out)
    assert document == {"error": said.removeprefix("alibench: ").rstrip("\n"), "exit_code": code}
    assert code == 2


def test_what_is_no_number_is_null() -> None:
    facts = {
        "a": [1.5, float("nan")],
        "b": {"c": float("-inf"), "d": np.float64("nan")},
        "e": Path("x"),
        "f": (None, True),
    }
    document = outputs.Answer(3, facts).document
    assert strict(document) == {
        "a": [1.5, None],
        "b": {"c": None, "d": None},
        "e": "x",
        "f": [None, True],
        "exit_code": 3,
    }


def test_what_others_print_is_kept_from_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with outputs.for_facts_alone():
        print("a library")
        subprocess.run(["echo", "a process"], check=True)
    print("the document")
    captured = capfd.readouterr()
    assert captured.out == "the document\n"
    assert sorted(captured.err.splitlines()) == ["a library", "a process"]


def test_list_tells_programs_what_it_tells_people() -> None:
    code, out, table = call(["list", "--json"])
    listed = strict(out)
    assert listed.pop("exit_code") == code == 0
    assert listed.keys() == {"models", "suites", "data_sets", "metrics"}
    names = {kind: {line["name"] for line in lines} for kind, lines in listed.items()}
    assert names["models"] == set(REGISTRY)
    assert names["suites"] == set(loading.builtin())
    assert names["metrics"] == set(METRICS)
    assert {"digits", "folder:PATH"} < names["data_sets"]
    assert {line["name"]: line["draws_z"] for line in listed["models"]}["ali"] is True
    assert all(name in table for some in names.values() for name in some)


def test_tables_are_told_cell_by_cell(place: Path) -> None:
    code, out, _ = call(["table", "out", "--json"])
    document = strict(out)
    assert (code, document["out"]) == (0, "out")
    (line, *_) = document["tables"]["digits-quality"]
    assert (line["model"], line["seeds"]) == ("ALI", "1")
    written = (place / "out" / "tables" / "digits-quality.csv").read_text()
    assert line["reconstruction, mean code ↓"] in written
    code, out, _ = call(["tables", "--from", "out", "--out", "paper", "--json"])
    assert (code, strict(out)["out"]) == (0, "paper")
    assert strict(out)["tables"]


def test_a_gate_that_trains_nothing_has_no_dry_run() -> None:
    code, out, _ = call(["regression", "--from", "out", "--dry-run", "--json"])
    assert (code, "leave one of them out" in strict(out)["error"]) == (2, True)


# ------------------------------------------------------------------------------------------------ dry runs


def test_a_dry_run_tells_every_run_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(timing, "MOMENT", 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    settings = [
        "--set",
        "steps=40",
        "--set",
        "metrics=['fidelity','throughput']",
        "--set",
        "evaluation.seconds=0.25",
    ]
    words = [
        "run",
        "digits",
        "--models",
        "ali",
        "gan",
        "--seeds",
        "3",
        *settings,
        "--out",
        str(tmp_path / "a" / "b"),
    ]
    code, out, shown = call([*words, "--dry-run", "--json"])
    told = strict(out)
    assert code == 0, shown
    assert not list(tmp_path.iterdir())  # no folder, and no statistics of the real images
    assert (threads[0], threads[-1]) == (1, 2)  # timed as a worker computes, and then as before
    assert told["kinds"] == {"run": 6, "references": 1, "throughput": 2}
    assert (told["runs"], told["finished"], told["dry_run"]) == (9, 0, True)
    (suite,) = loading.load("digits", settings[1::2], ["ali", "gan"], 3)
    assert told["expect"] == {"digits": suite.expect}
    for entry, name in zip(told["entries"], ("ali", "gan"), strict=True):
        recipe = compute.recipe_of(suite, name)
        assert entry["gflop"] == compute.gflop(suite, name, recipe)
        assert entry["steps"] == Job("run", suite, name, 0, tmp_path, "cpu", ()).steps
        assert entry["seeds"] == [0, 1, 2]
        assert entry["training_seconds"] > 0 < entry["evaluation_seconds"]
    seconds = told["seconds"]
    assert seconds["training"] == pytest.approx(
        3 * sum(entry["training_seconds"] for entry in told["entries"])
    )
    assert seconds["throughput"] == 2 * 3 * 0.25
    assert (
        seconds["wall"]
        > (seconds["training"] + seconds["evaluation"]) / told["workers"] + seconds["throughput"]
    )
    assert told["bytes"] == space.disk([suite], told["workers"])
    assert suite.expect in shown


def test_a_dry_run_leaves_out_what_is_finished_and_is_refused_as_the_command_is(place: Path) -> None:
    begun = ["run", "digits", "--models", "ali", "--seeds", "1", *TINY]
    assert call([*begun, "--out", "out", "--dry-run"])[0] == 2  # which holds runs, and no plan
    code, out, said = call(
        ["evaluate", "out", "--metrics", "reconstruction", "--dry-run", "--json", "--out", "new"]
    )
    assert code == 0, said
    told = strict(out)
    assert (told["kinds"], told["entries"][0]["steps"]) == ({"evaluation": 1, "references": 1}, None)
    (suite,) = loading.load("digits", ["metrics=['reconstruction']"], ["ali"], 1)
    work = [Job("run", suite, "ali", seed, Path("out"), "cpu", ()) for seed in (0, 1)]
    left = forecast.foretell(work, Local(CPU), 0)
    assert (left["finished"], [entry["seeds"] for entry in left["entries"]]) == (1, [[1]])
    nothing = forecast.foretell(work[:1], Local(CPU), 0)
    assert (nothing["finished"], nothing["entries"]) == (1, [])
    assert nothing["seconds"]["wall"] == forecast.STARTED


def test_stacked_seeds_are_timed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MOMENT", 0.0)
    (suite,) = loading.load("digits", only=["gan"])
    work = [Job("run", suite, "gan", seed, Path("nowhere"), "cpu", ()) for seed in range(3)]
    recipe, phases = suite.recipe_of("gan"), suite.build("gan", 0).phases
    clock = timing.Clock(CPU)
    together = clock.rounds(work, recipe, phases)
    assert len(together) == len(phases) == 2
    assert all(seconds > 0 for seconds in together)
    assert (
        clock.rounds(work, replace(recipe, steps=7, lr=1e-5), phases) == together
    )  # known, and not timed again
    assert clock.rounds(work, replace(recipe, batch=8), phases) != together


def test_measuring_many_images_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MOMENT", 0.0)
    monkeypatch.setattr(timing, "LARGE", 354 * 64)
    code, out, shown = call(["run", "digits", "--models", "vae", *SMALL, "--dry-run", "--json"])
    assert code == 0
    assert strict(out)["seconds"]["evaluation"] is None
    assert "not timed" in shown
    assert "evaluation, tables and pictures come on top" in shown


def test_durations_are_in_the_unit_that_reads_best() -> None:
    assert [forecast.spoken(s) for s in (0.25, 12.4, 150, 7200, 400_000, None)] == [
        *("0.2 s", "12 s", "2.5 min", "2.0 h", "4.6 d", "not timed")
    ]


# ------------------------------------------------------------------------------------------------ completion


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")
def test_bash_completes_commands_options_suites_metrics_and_files(place: Path) -> None:
    code, script, _ = call(["completion", "bash"])
    assert code == 0
    lines = [
        "ru",
        "run dig",
        "run mi",
        "run digits --tens",
        "evaluate out --metrics s",
        "run digits --precision b",
        "table o",
    ]
    tries = "\n".join(
        f'COMP_WORDS=(alibench {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shtab_alibench; echo "${{COMPREPLY[@]}}"'
        for line in lines
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{tries}"], capture_output=True, text=True, check=True)
    found = dict(zip(lines, done.stdout.splitlines(), strict=True))
    assert found == {
        "ru": "run",
        "run dig": " ".join(name for name in loading.builtin() if name.startswith("dig")),
        "run mi": "mine.toml",
        "run digits --tens": "--tensorboard",
        "evaluate out --metrics s": "svm",
        "run digits --precision b": "bf16",
        "table o": "out",
    }


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_their_scripts(shell: str) -> None:
    code, script, _ = call(["completion", shell])
    assert code == 0
    assert all(name in script for name in (*COMMANDS, *loading.builtin(), *METRICS))


# -------------------- logs and terminals


def test_a_log_has_whole_lines_and_no_garbage(quick: Path) -> None:
    lines = (quick.parent / "log").read_text().split("\n")
    assert not [line for line in lines if "\x1b" in line or "\r" in line or "\b" in line]
    assert not [line for line in lines if len(line) > 160]
    # in a table, below one, or of the runs: nothing of a library's is there
    tables = re.compile(r"[┏┃┡│└├]|[\w-]+ *$")
    begun = next(i for i, line in enumerate(lines) if tables.match(line))
    runs = [*lines[:begun]]
    assert all(
        re.fullmatch(r"\d+ runs on cpu, .* at a time|\[\d+/\d+\] \S+: done \(.*left\)", line) for line in runs
    )
    assert not re.search(r"Warning|warn\(|it/s", "\n".join(lines))


def test_ci_that_asks_for_colours_or_knows_no_signs_gets_a_plain_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    raw = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(raw, encoding="ascii")) as out:
        assert main(["list"]) == 0
        out.flush()
    log = raw.getvalue().decode("ascii")
    assert "reconstruction error" in log
    assert "KID ? 1000" in log
    assert "\x1b" not in log


@pytest.mark.commands
def test_a_terminal_without_colours_and_json_beside_it(tmp_path: Path) -> None:
    """One command, its stderr a terminal with NO_COLOR, its stdout a pipe."""
    master, slave = pty.openpty()
    words = ["run", "digits", "--models", "vae", "--seeds", "1", *TINY, "--set", "metrics=['reconstruction']"]
    words += ["--out", str(tmp_path / "out"), "--json"]
    # on one core, where the system can do that, so that there is one worker and half the imports
    program = "import os, sys\nif hasattr(os, 'sched_setaffinity'):\n"
    program += "    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from alibench.benchmarks.commands.cli import main; code = main(sys.argv[1:])\n"
    program += "assert not any(name.startswith('tensorboard') for name in sys.modules); sys.exit(code)"
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=slave, env=environment
    ) as running:
        os.close(slave)
        shown = b""
        while select.select([master], [], [], 60)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:  # Linux's end of a terminal
                break
            if not part:
                break
            shown += part
        assert running.stdout is not None
        out = running.stdout.read()
    os.close(master)
    text = shown.decode()
    assert running.returncode == 0, text
    document = strict(out.decode())
    assert (document["out"], document["exit_code"]) == (str(tmp_path / "out"), 0)
    assert document["runs"] == {"digits-vae-seed0": "ok", "digits-references": "ok"}
    assert document["tables"]["digits-quality"][0]["model"] == "VAE"
    assert Path(document["report"]).exists()
    styles = {
        int(code) for found in re.findall(r"\x1b\[([\d;]*)m", text) for code in found.split(";") if code
    }
    assert "all runs" in text  # the bars are there
    assert styles <= {0, 1, 2, 3, 4}  # bold and the like; 30 and above are colours
