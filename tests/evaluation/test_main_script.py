"""What processes that do runs see of their script is known before any of them is started."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import plugins
from alibench.benchmarks.running.local import Local
from alibench.evaluation import main_script
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import extractors
from alibench.evaluation.settings import Settings
from tests.benchmarks.config.test_plugins import nothing_left_behind, written

HEAD = """from alibench.evaluation.features import extractors

def make(data, settings, device):
    corners = lambda x: (x[:, 0, ::4, ::4].flatten(1) / 255, None)
    return extractors.Extractor("corners", "0" * 64, 4, corners, device)

"""
REGISTER, RUN = "extractors.register('corners', make)\n", "run('corners')\n"
GUARDED = 'if __name__ == "__main__":\n    '


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no extractor of a test behind."""
    monkeypatch.setattr(extractors, "MAKERS", {})
    monkeypatch.setattr(main_script, "REGISTERED", {})
    with nothing_left_behind():
        yield


def run(extractor: str) -> None:
    """Do what a command does before it starts workers."""
    suite = SimpleNamespace(evaluation=Settings(extractor=extractor), resources=None)
    jobs: list[Any] = [SimpleNamespace(suite=suite)]
    Local(torch.device("mps")).check(jobs, {})


def execute(text: str, monkeypatch: pytest.MonkeyPatch, file: Path | None) -> None:
    """Execute a text as Python executes a script, or what is typed in a notebook."""
    module = ModuleType("__main__")
    if file is not None:
        file.write_text(text)
        module.__file__ = str(file)
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(compile(text, str(file or "<cell>"), "exec"), vars(module))


ACCEPTED = {
    "before the guard": HEAD + REGISTER + GUARDED + RUN,
    "the guard the other way round": HEAD + REGISTER + 'if "__main__" == __name__:\n    ' + RUN,
    "the run in a function": HEAD + REGISTER + f"def go():\n    {RUN}\n{GUARDED}go()\n",
    "an extractor of ours": "if __name__ == '__main__':\n    run('classifier')\n",
}
AGAIN = "the processes that do runs import this script, and would run it again"
UNDER = "extractor 'corners' is registered under an 'if' that the processes that do runs do not enter"
REFUSED = {
    "no guard": (HEAD + REGISTER + RUN, f"line 8: {AGAIN}"),
    "no guard around a function": (HEAD + REGISTER + f"def go():\n    {RUN}\ngo()\n", f"line 11: {AGAIN}"),
    "no guard, an extractor of ours": ("run('classifier')\n", f"line 1: {AGAIN}"),
    "registered under the guard": (HEAD + GUARDED + REGISTER + "    " + RUN, f"line 8: {UNDER}"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_script_that_workers_can_import_is_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(ACCEPTED[case], monkeypatch, tmp_path / "mine.py")


@pytest.mark.parametrize("case", REFUSED)
def test_a_script_that_workers_would_run_again_is_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, told = REFUSED[case]
    with pytest.raises(BadInput) as refused:
        execute(text, monkeypatch, tmp_path / "mine.py")
    assert str(refused.value).startswith(f"{tmp_path / 'mine.py'}, {told}")
    assert 'if __name__ == "__main__":' in str(refused.value)


def test_what_is_typed_is_refused_where_workers_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    execute("run('classifier')", monkeypatch, None)  # nothing of it is needed
    with pytest.raises(
        BadInput, match=r"registered in a notebook or by python -c.*name that by --plugin FILE"
    ):
        execute(HEAD + REGISTER + RUN, monkeypatch, None)


def test_a_plug_in_brings_an_extractor_to_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, HEAD + REGISTER)
    assert main(["list", "--plugin", str(path)]) == 0
    assert "corners" not in extractors.MAKERS  # one command leaves another nothing
    assert plugins.load(path) == ()
    assert list(plugins.LOADED) == [plugins.Plugin(path)]
    assert extractors.maker("corners") is extractors.MAKERS["corners"]
    execute("run('corners')", monkeypatch, None)
    with pytest.raises(BadInput, match="defines no model"):
        plugins.load(written(tmp_path, HEAD, "other.py"))
    assert capsys.readouterr().err == ""


def test_a_script_that_came_by_a_pipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("__main__")
    module.__file__ = "<stdin>"
    monkeypatch.setitem(sys.modules, "__main__", module)
    with pytest.raises(BadInput, match="<stdin>, is not a file"):
        run("inception")
