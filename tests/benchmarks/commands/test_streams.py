"""Streams that are closed, full or without a reader, and models of a user's that close them or end the
process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY, sets

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this machine"),
]
# it works when it is rehearsed, and ends a worker; as it is imported, it closes what is not its own
ENDS = """
import multiprocessing, os, sys
from alibench.models.bigan import BiGAN

sys.stdout.close()


class Ends(BiGAN):
    name, title, source = "ends", "Ends", "me"

    def game(self, logits, y=None):
        if multiprocessing.parent_process():
            sys.exit(0)
        return super().game(logits, y)
"""
RUN = ["run", "digits", "--plugin", "ends.py", "--models", "ends", "--seeds", "1", *TINY]
RUN += sets("metrics=['health']")
# name -> its command, what its stdout and stderr are, its exit code
CASES = {
    "closed stdout": (["list"], "closed", "file", 0),
    "closed stderr": (["run", "nothing", "--json"], "file", "closed", 2),
    "full": (["list"], "full", "file", 2),
    "full, by JSON": (["list", "--json"], "full", "file", 2),
    "full, help": (["--help"], "full", "file", 2),
    "both full": (["list"], "full", "full", 2),
    "full stderr": (["run", "nothing"], "file", "full", 2),
    "no reader": (["list"], "broken", "file", 141),
    "no reader, help": (["--help"], "broken", "file", 141),
    "no reader, completion": (["completion", "bash"], "broken", "file", 141),
    "no reader, of stderr": (["run", "nothing"], "file", "broken", 141),
    "reader of two lines": ([*RUN, "--out", "out"], "read", "file", 141),
    "listed": (["list", "--plugin", "ends.py"], "file", "file", 0),
    "listed, by JSON": (["list", "--plugin", "ends.py", "--json"], "file", "file", 0),
}
# all are forked from one process, since importing torch takes seconds; each gets its streams as a start of
# Python makes them
PROGRAM = """
import json, os, sys, traceback
from alibench.benchmarks.running import local
from alibench.benchmarks.commands.cli import main

local.workers = lambda device, suites=(): 1
codes = {}
for name, (words, *streams, _) in json.loads(sys.argv[1]).items():
    read, write = os.pipe()
    sys.stdout.flush()
    if child := os.fork():
        os.close(write)
        with open(read) as lines:
            if "read" in streams:
                open(f"{name}.stdout", "w").write(lines.readline() + lines.readline())
        codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        continue
    os.close(read)
    gone, went = os.pipe()
    os.close(gone)
    for number, (stream, what) in enumerate(zip(("stdout", "stderr"), streams), 1):
        if what in ("broken", "read"):
            os.dup2(went if what == "broken" else write, number)
        elif what == "closed":
            os.close(number)
            setattr(sys, stream, None)
            setattr(sys, f"__{stream}__", None)
        else:
            path = "/dev/full" if what == "full" else f"{name}.{stream}"
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.close(write)
    os.close(went)
    try:
        code = main(words)
    except SystemExit as help:
        code = help.code
    except BaseException:
        code = 1
        traceback.print_exc()
    # As Python does at its end, which takes a second with torch.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(code)
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which all cases were run, each with what it printed."""
    place = tmp_path_factory.mktemp("streams")
    (place / "ends.py").write_text(ENDS)
    command = [sys.executable, "-c", PROGRAM, json.dumps(CASES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (place / "codes.json").write_text(done.stdout)
    return place


def printed(place: Path, case: str, stream: str = "stderr") -> str:
    return (place / f"{case}.{stream}").read_text()


def test_every_command_ends_with_its_code_and_without_a_traceback(place: Path) -> None:
    assert json.loads((place / "codes.json").read_text()) == {
        name: code for name, (*_, code) in CASES.items()
    }
    told = {file.name: file.read_text() for file in place.glob("*.std*")}
    assert not [name for name, text in told.items() if "Traceback" in text or "Exception ignored" in text]


def test_a_stream_without_room_is_one_line_and_one_without_a_reader_none(place: Path) -> None:
    line = "stdout cannot be written (No space left on device): make room, or send it elsewhere"
    for case in ("full", "full, help"):
        assert printed(place, case) == f"alibench: {line}\n"
    assert printed(place, "full, by JSON").endswith(f"alibench: {line}\n")
    for case in ("no reader", "no reader, help", "no reader, completion", "closed stdout"):
        assert printed(place, case) == ""


def test_what_is_told_on_a_closed_stderr_is_not_in_the_document(place: Path) -> None:
    assert json.loads(printed(place, "closed stderr", "stdout"))["exit_code"] == 2


def test_a_reader_that_goes_away_loses_nothing_that_was_finished(place: Path) -> None:
    assert [rows.parent.name for rows in (place / "out" / "runs").glob("*/rows.json")] == [
        "digits-references"
    ]
    assert not list((place / "out").rglob("*.part"))


def test_a_plug_in_that_closes_stdout_takes_nothing_from_us(place: Path) -> None:
    assert "ends" in printed(place, "listed", "stdout")
    document = json.loads(printed(place, "listed, by JSON", "stdout"))
    assert "ends" in [model["name"] for model in document["models"]]


def test_a_plug_in_that_ends_a_worker_is_named_with_its_line(place: Path) -> None:
    line = ENDS.splitlines().index("            sys.exit(0)") + 1
    told = printed(place, "reader of two lines", "stdout")
    assert f"digits-ends-seed0: failed: ends.py, line {line}, in game: SystemExit: 0 (" in told
