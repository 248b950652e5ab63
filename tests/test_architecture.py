"""The house: imports flow one way, adding a model is adding a file, the sessions explain themselves."""

import ast
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alibench import models
from alibench.models.base import Model

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "models": set(),
    "evaluation": {"models"},
    "results": {"models", "evaluation"},
    "benchmarks": {"models", "evaluation", "results"},
}


def imported(path: Path) -> set[str]:
    """Return our modules that a file imports, within functions too, by their full names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith(("alibench", "tests"))}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_flow_one_way(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        rooms = {name.split(".")[1] for name in imported(path)}
        assert rooms <= MAY_IMPORT[room] | {room}, path


def test_loop_and_runner_know_no_model_by_name() -> None:
    for path in (ROOT / "benchmarks").rglob("*.py"):
        strings = {
            node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
        }
        assert not strings & models.REGISTRY.keys(), path


@pytest.mark.commands
def test_adding_a_model_is_adding_one_file(tmp_path: Path) -> None:
    file = tmp_path / "alibench" / "models" / "mine.py"
    for room in ("alibench", "models", "evaluation", "results/page", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, symlinks=True, ignore=ignored)
    for name in ("published.csv", *(path.name for path in (ROOT / "results").glob("*.py"))):
        shutil.copy(ROOT / "results" / name, tmp_path / "results")
    file.write_text(
        "from alibench.models.bigan import BiGAN\nclass Mine(BiGAN):\n"
        "    name = 'mine'\n    title = 'Mine'\n    source = 'me'\n"
    )
    program = (
        "from alibench.benchmarks.config import loading\n"
        "assert loading.load('digits', only=['mine'])[0].build('mine', 0).title == 'Mine'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_every_model_is_one_short_file_that_cites_its_source() -> None:
    assert {"ali", "bigan", "gan", "vae"} <= set(models.REGISTRY)
    for name, model in models.REGISTRY.items():
        path = Path(inspect.getfile(model)).resolve()
        assert path.parent == ROOT / "models", name
        assert len(path.read_text().splitlines()) <= 90, name
        assert any(year in model.source for year in ("20",)), name
        assert issubclass(model, Model)


def test_every_session_is_explained_in_a_line() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    assert {"benchmark", "tests", "lint", "types"} <= {session.name for session in sessions}
    for session in sessions:
        assert ast.get_docstring(session), session.name


def test_the_readmes_commands_are_those_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    tests = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s tests"
    assert tests in readme
    assert tests in (ROOT / ".ci" / "run").read_text()
    assert tests.replace("-s tests", "-s benchmark") in readme
