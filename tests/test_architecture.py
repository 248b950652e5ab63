"""The house: rooms and the direction of their imports, the size of pages, one name on the outside."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from alibench import models
from alibench.models.base import Model

ROOT = Path(__file__).parent.parent
# the rooms from the ground up: a room imports from those on lower floors, and from itself
FLOORS: tuple[set[str], ...] = (
    {"models"},
    {"evaluation"},
    {"results"},
    {"benchmarks.data", "benchmarks.training"},
    {"benchmarks.config"},
    {"benchmarks.checkup", "benchmarks.running"},
    {"benchmarks.commands"},
    {"benchmarks.studies"},
)
ROOMS = ("models", "evaluation", "results", "benchmarks")
# what takes long to import, so that a function may do it: ours by name, and libraries
SLOW = {
    "alibench.benchmarks.running.ray",
    "alibench.evaluation.features.inception",
    "alibench.evaluation.features.vgg16",
    "alibench.results.figures",
    "alibench.results.papers",
    "alibench.results.report",
}
EXTRAS = {"mlflow", "onnxruntime", "ray", "tensorboard", "timm", "wandb"}
LIBRARIES = {"matplotlib", "scipy", "sklearn", "torch", "torch_fidelity", "torchvision"}


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


OURS = [path for path in files(*ROOMS) if "runs" not in path.parts] + [*(ROOT / "alibench").glob("*.py")]
CODE = {path: path.read_text() for path in OURS}
TREES = {path: ast.parse(text) for path, text in CODE.items()}


def module(path: Path) -> str:
    """Return a file's name as it is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "alibench" else ("alibench", *parts))


MODULES = {module(path): path for path in OURS}


def named(node: ast.AST) -> list[str]:
    """Return what a statement imports, by full names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else str(node.module) for name in full]
    return []


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


IMPORTS = {
    name: {target for node in ast.walk(TREES[path]) for target in named(node) if target in MODULES} - {name}
    for name, path in MODULES.items()
}

# -------------------- rooms


def room_of(name: str) -> str:
    """Return the room of a module; its faces, which are on top of all, have none."""
    parts = name.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["benchmarks"] else 1])


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_imports_flow_one_way(floor: int) -> None:
    lower = {room for rooms in FLOORS[:floor] for room in rooms}
    for name, targets in IMPORTS.items():
        if room_of(name) in FLOORS[floor]:
            foreign = {room_of(target) for target in targets} - lower - {room_of(name), "benchmarks"}
            assert not foreign, f"{name} imports from {foreign}"


def test_every_folder_is_a_room() -> None:
    known = {room for rooms in FLOORS for room in rooms} | {"", "benchmarks", "__main__"}
    assert {room_of(name) for name in MODULES} <= known
    assert sum(any(room.startswith("benchmarks.") for room in rooms) for rooms in FLOORS) <= 6


def test_no_module_imports_itself_by_way_of_others() -> None:
    reached: dict[str, set[str]] = {}

    def reach(name: str, above: tuple[str, ...]) -> set[str]:
        assert name not in above, f"a circle: {' -> '.join([*above[above.index(name) :], name])}"
        if name not in reached:
            below = {part for target in IMPORTS[name] for part in reach(target, (*above, name))}
            reached[name] = IMPORTS[name] | below
        return reached[name]

    for name in MODULES:
        reach(name, ())


def test_functions_import_only_extras_and_what_is_slow() -> None:
    for path, tree in TREES.items():
        for function in functions(tree):
            for target in (target for node in ast.walk(function) for target in named(node)):
                allowed = target in SLOW or target.partition(".")[0] in EXTRAS | LIBRARIES
                assert allowed, f"{path}: {function.name} imports {target}"


def test_a_class_name_stands_for_one_thing() -> None:
    classes = [node for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef)]
    names = Counter(node.name for node in classes)
    assert [name for name, times in names.items() if times > 1] == []


def test_tests_mirror_the_rooms() -> None:
    rooms = {room.replace(".", "/") for rooms in FLOORS for room in rooms}
    for path in (ROOT / "tests").rglob("test_*.py"):
        place = path.parent.relative_to(ROOT / "tests").as_posix()
        assert place in rooms | {".", "gpu", "speed", "faults"}, path


# -------------------- pages


def is_wall(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> bool:
    """Return whether a function's body has no blank line and no comment."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = (first.end_lineno or 0) + 1 if is_docstring else first.lineno
    body = lines[start - 1 : function.end_lineno]
    return not any(not line.strip() or "# " in line for line in body)


def test_files_and_functions_are_short() -> None:
    for path, text in CODE.items():
        assert len(text.splitlines()) <= 400, path
        for function in functions(TREES[path]):
            assert function.end_lineno - function.lineno < 60, f"{path}: {function.name}"
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            taken = {argument.arg for argument in arguments} - {"self", "cls"}
            assert len(taken) <= 7, f"{path}: {function.name} takes {len(taken)} arguments"


def test_the_loop_fits_on_three_screens() -> None:
    assert len((ROOT / "benchmarks" / "training" / "loop.py").read_text().splitlines()) < 150


def test_long_functions_have_paragraphs_and_pages_say_why() -> None:
    walls, long, comments, lines = 0, 0, 0, 0
    for path, text in CODE.items():
        page = text.splitlines()
        lines += len(page)
        comments += sum(line.strip().startswith("#") for line in page)
        for function in functions(TREES[path]):
            if (function.end_lineno or 0) - function.lineno >= 19:
                long += 1
                walls += is_wall(function, page)
    assert walls <= 0.15 * long
    assert comments >= 0.04 * lines


def test_the_loop_and_the_runner_know_no_model_by_name() -> None:
    for path in files("benchmarks"):
        tree = TREES[path]
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not strings & models.REGISTRY.keys(), path


def test_every_model_is_one_short_file_that_cites_its_source() -> None:
    assert {"ali", "bigan", "gan", "vae"} <= set(models.REGISTRY)
    for name, model in models.REGISTRY.items():
        path = Path(inspect.getfile(model)).resolve()
        assert path.parent == ROOT / "models", name
        assert len(path.read_text().splitlines()) <= 90, name
        assert "20" in model.source, name  # a year
        assert issubclass(model, Model)


# -------------------- one name


def test_nothing_is_imported_by_a_bare_name() -> None:
    """A file that is imported by two names is there twice, with two of each class."""
    bare = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(ROOMS)})\b", re.MULTILINE)
    pages = [*files(*ROOMS, "alibench", "tests"), ROOT / "noxfile.py", ROOT / "README.md"]
    for path in [*pages, *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py")]:
        if path.name != "test_plugins.py":  # where users do it
            assert not bare.findall(path.read_text()), path
    assert not sys.modules.keys() & set(ROOMS)


def test_what_is_built_is_what_is_there() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(built["packages"]) == {module(path) for path in OURS if path.name == "__init__.py"}
    assert built["package-dir"] == {f"alibench.{room}": room for room in ROOMS}
    # the links show the same to tools that read no build settings
    assert [os.readlink(ROOT / "alibench" / room) for room in ROOMS] == [f"../{room}" for room in ROOMS]


@pytest.mark.commands
def test_adding_a_model_is_adding_one_file(tmp_path: Path) -> None:
    for room in ("alibench", *ROOMS):
        ignored = shutil.ignore_patterns("__pycache__", "runs", "reference", "tuning")
        shutil.copytree(ROOT / room, tmp_path / room, symlinks=True, ignore=ignored)
    (tmp_path / "models" / "mine.py").write_text(
        "from alibench.models.bigan import BiGAN\nclass Mine(BiGAN):\n"
        "    name = 'mine'\n    title = 'Mine'\n    source = 'me'\n"
    )
    program = (
        "from alibench.benchmarks.config import loading\n"
        "assert loading.load('digits', only=['mine'])[0].build('mine', 0).title == 'Mine'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


# -------------------- sessions


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
