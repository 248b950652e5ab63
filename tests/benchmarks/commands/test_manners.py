"""Manners of the command line: help that can be pasted, the name that was meant, JSON, dry runs, completion,
quiet logs.
"""

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
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.shell_completion import BashComplete

from alibench import results
from alibench.benchmarks.commands.cli import COMMANDS, COMPLETE, HELP, main
from alibench.benchmarks.config import compute, loading
from alibench.benchmarks.running import answers, forecast, space, timing
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.local import Local
from alibench.evaluation.metrics import METRICS
from alibench.models import REGISTRY
from tests.benchmarks.config.test_plugins import nothing_left_behind
from tests.benchmarks.data.folders import pictures
from tests.conftest import TINY, sets

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
FEW = {
    "run": SMALL,
    "tune": [*SMALL, "--set", "search.judged_by=['reconstruction_error']"],
    "evaluate": [],
    "demo": [],
}


def parsed(words: list[str]) -> dict[str, Any]:
    """Return the values of a command's options. Raises what a mistake raises."""
    name, *rest = words
    context = click.Context(COMMANDS, info_name="alibench")
    command = COMMANDS.get_command(context, name)
    assert command is not None
    return command.make_context(name, rest, parent=context).params


def examples_of(name: str, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the words of each example below a command's help."""
    assert main([name, "--help"]) == 0
    lines = examples(capsys.readouterr().out)
    return [shlex.split(line.partition(" > ")[0], comments=True)[1:] for line in lines]


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


@pytest.mark.parametrize("command", ["", *HELP])
def test_every_help_fits_80_columns_and_ends_with_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*([command] if command else []), "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    lines = examples(text)
    assert 2 <= len(lines) <= 4
    assert all(line.startswith(f"alibench {command}".rstrip()) for line in lines)
    assert text.rstrip().endswith("--resume resumes it" if not command else lines[-1])
    if not command:
        told = re.findall(r"^  (\d+)(?:, (\d+))?  ", text, re.M)
        assert told == [*((c, "") for c in "0123"), ("130", "143"), ("141", "")]
        page = (ROOT / "docs" / "command-line.md").read_text()
        assert re.findall(r"^\| (\d+)(?:, (\d+))? \| ", page, re.M) == told


@pytest.mark.parametrize("command", HELP)
def test_every_example_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in examples_of(command, capsys):
        assert parsed(words)


def test_help_imports_neither_torch_nor_any_command() -> None:
    program = """
import sys
from alibench.benchmarks.commands.cli import main
assert main([]) == main(["--help"]) == 0 and main(["rnu"]) == 2
print(*{name.partition(".")[0] for name in sys.modules})
print(*(name for name in sys.modules if name.startswith("alibench.benchmarks.commands.")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *_, libraries, commands = done.stdout.splitlines()
    assert not {"torch", "numpy", "pandas", "sklearn", "matplotlib", "scipy"} & set(libraries.split())
    assert commands == "alibench.benchmarks.commands.streams alibench.benchmarks.commands.cli"


def test_without_words_four_lines_say_what_to_type() -> None:
    code, told, said = call([])
    lines = told.splitlines()
    assert (code, said, len(lines)) == (0, "", 4)
    assert max(map(len, lines)) <= 80
    first = [shlex.split(line.partition("  ")[0]) for line in lines]
    assert all(parsed(words[1:]) for words in first[:3])
    assert first[3] == ["alibench", "--help"]


def test_an_option_takes_one_word_or_all_up_to_the_next_option() -> None:
    words = ["run", "--models", "ali", "vae", "--seeds", "-1", "--set", "a=1", "digits", "--set=b=-2"]
    options = parsed(words)
    assert options["models"] == ("ali", "vae")
    assert (options["seeds"], options["suite"], options["overrides"]) == (-1, "digits", ("a=1", "b=-2"))
    assert parsed([*words, "--models", "gan"])["models"] == ("gan",)
    assert parsed(["report", "a", "b", "--out", "c"])["folders"] == (Path("a"), Path("b"))
    assert parsed(["tables", "--from", "a", "b"])["sources"] == (Path("a"), Path("b"))
    assert parsed(["table", "--", "--json"])["folder"] == Path("--json")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "--json"], "option '--out' requires an argument"),
        (["--models"], "option '--models' requires an argument"),
        (["--models=ali", "vae"], "got unexpected extra argument (vae)"),
        (["--resume=yes"], "option '--resume' does not take a value"),
        (["--model", "ali"], "run has no option '--model' (did you mean '--models'?)"),
        (["--channels", "2"], "invalid value for '--channels': '2' is not one of '1', '3'"),
    ],
)
def test_mistaken_words_are_one_line_that_names_the_help(words: list[str], told: str) -> None:
    code, _, said = call(["run", "digits", *words])
    assert (code, said) == (2, f"alibench: {told}; see 'alibench run --help'\n")


@pytest.mark.commands
@pytest.mark.whole
def test_every_example_parses_and_its_dry_run_passes_and_writes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Path(results.__file__).parent / "runs"
    before = listing(place, runs)
    tried = set()
    for name in HELP:
        for words in examples_of(name, capsys):
            if "dry_run" in parsed(words) and words[0] != "regression":
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
    "suite": (["run", "digts"], "digits"),
    "suite to be tuned": (["tune", "digts"], "digits"),
    "suite to be gated": (["regression", "gaet"], "gate"),
    "model": (["run", "digits", "--models", "bgian"], "bigan"),
    "metric": (["run", "digits", "--set", "metrics=['fidelty']"], "fidelity"),
    "metric of an evaluation": (["evaluate", "out", "--metrics", "reconstuction"], "reconstruction"),
    "dataset": (["run", "digits", "--data", "digts"], "digits"),
    "dataset of the suite": (["run", "digits", "--set", "dataset=celebA"], "celeba"),
    "dataset to fit to": (["fit-extractor", "fashion-mnist"], "fashion_mnist"),
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


def test_a_setting_that_is_given_as_an_option_is_told_as_a_setting(place: Path) -> None:
    for words in (["run", "digits", "--metrics", "fidelity"], ["evaluate", "out", "--labels=50"]):
        code, _, said = call(words)
        assert code == 2
        assert (
            f"has no option '{words[2].partition('=')[0]}' (settings are changed by --set KEY=VALUE)" in said
        )
    code, _, said = call(["table", "out", "--metrics", "svm"])
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
    document = answers.Answer(3, facts).document
    assert strict(document) == {
        "a": [1.5, None],
        "b": {"c": None, "d": None},
        "e": "x",
        "f": [None, True],
        "exit_code": 3,
    }


def test_what_others_print_is_kept_from_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with answers.stdout_for_facts():
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


def test_the_overview_is_printed_and_all_tables_where_they_are_asked_for(place: Path) -> None:
    def titles(printed: str) -> set[str]:
        return set(re.findall(r"^(digits-[\w-]+) *$", printed, re.M))

    code, overview, _ = call(["table", "out"])
    assert (code, titles(overview)) == (0, {"digits-overview"})
    assert "tables.md" in overview
    (line,) = re.findall(r"^All tables: alibench (.*)$", overview, re.M)
    code, printed, _ = call(shlex.split(line))
    assert code == 0
    assert titles(printed) == {path.stem for path in (place / "out" / "tables").glob("*.csv")}
    assert "All tables" not in printed
    code, out, said = call(["table", "out", "--json"])
    assert titles(said) == {"digits-overview"}
    assert strict(out)["tables"].keys() == titles(printed)


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
    settings = ("steps=40", "metrics=['fidelity','throughput']", "evaluation.seconds=0.25")
    words = ["run", "digits", "--models", "ali", "gan", "--seeds", "3", *sets(*settings)]
    words += ["--out", str(tmp_path / "a" / "b")]
    code, out, shown = call([*words, "--dry-run", "--json"])
    told = strict(out)
    assert code == 0, shown
    assert not list(tmp_path.iterdir())  # no folder, and no statistics of the real images
    assert (threads[0], threads[-1]) == (1, 2)  # timed as a worker computes, and then as before
    assert told["kinds"] == {"run": 6, "references": 1, "throughput": 2}
    assert (told["runs"], told["finished"], told["dry_run"]) == (9, 0, True)
    (suite,) = loading.load("digits", settings, ["ali", "gan"], 3)
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


COMPLETED = {
    "ru": ["run"],
    "run dig": sorted(name for name in loading.builtin() if name.startswith("dig")),
    "run mi": ["mine.toml"],
    "run digits --tens": ["--tensorboard"],
    "run digits --models va": ["vae"],
    "evaluate out --metrics s": ["stacked", "svm"],
    "evaluate out --data fold": ["folder:"],
    "completion f": ["fish"],
}


@pytest.mark.parametrize("line", COMPLETED)
def test_commands_options_suites_models_and_metrics_are_completed(line: str, place: Path) -> None:
    *words, last = line.split()
    completion = BashComplete(COMMANDS, {}, "alibench", COMPLETE)
    assert sorted(item.value for item in completion.get_completions(words, last)) == COMPLETED[line]


def test_folders_and_files_are_completed_by_the_shell() -> None:
    completion = BashComplete(COMMANDS, {}, "alibench", COMPLETE)
    for words, kind in (
        (["table"], "dir"),
        (["run", "digits", "--out"], "dir"),
        (["check"], "file"),
        (["regression", "--baseline"], "file"),
    ):
        assert [item.type for item in completion.get_completions(words, "x")] == [kind]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")
def test_bash_asks_the_command_itself(tmp_path: Path) -> None:
    code, script, _ = call(["completion", "bash"])
    assert code == 0
    program = tmp_path / "alibench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m alibench "$@"\n')
    program.chmod(0o755)
    asked = 'COMP_WORDS=(alibench ru); COMP_CWORD=1; _alibench_completion alibench; echo "${COMPREPLY[@]}"'
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **path},
    )
    assert done.stdout.split() == ["run"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_scripts(shell: str) -> None:
    code, script, _ = call(["completion", shell])
    assert code == 0
    assert f"{COMPLETE}={shell}_complete" in script


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


def test_an_installation_of_before_is_renewed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    script = EntryPoint("alibench", "benchmarks.cli:main", "console_scripts")
    before = SimpleNamespace(entry_points=EntryPoints([script]))
    monkeypatch.setattr("alibench.benchmarks.commands.command.distribution", lambda name: before)
    code, out, said = call(["list"])
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "pip install -e ." in said
