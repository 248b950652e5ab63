"""Plug-ins that cannot be used are refused in a line that names file and line, before anything is trained."""

import subprocess
import sys
from pathlib import Path

import pytest

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import blame, plugins
from alibench.evaluation.errors import BadInput
from alibench.models import REGISTRY
from tests.benchmarks.config.test_plugins import ELSEWHERE, MINE, ROOT, TINY, written
from tests.conftest import MODELS

BAD = {
    "no file": (None, "cannot be read (No such file or directory): name a Python file"),
    "no Python": ("class Mine(:\n    pass\n", "mine.py, line 1: invalid syntax"),
    "no text": ("\0", "mine.py"),
    "raises": (
        "import math\n\ndef f():\n    return 1 / 0\n\nf()\n",
        "mine.py, line 4, in f: ZeroDivisionError: division by",
    ),
    "exits": ("import sys\nsys.exit(3)\n", "mine.py, line 2: SystemExit: 3"),
    "raises what is not an error": (
        "class Ended(BaseException): ...\n\nraise Ended('for\\ngood')\n",
        "mine.py, line 3: Ended: for good",
    ),
    "needs what is not there": (
        "import torch\nimport nowhere_to_be_found\n",
        "line 2: ModuleNotFoundError: No module named",
    ),
    "no model": (
        "x = 1\n",
        "mine.py defines no model: it needs a class of models.base.Model with name, title",
    ),
    "no name": (
        MINE.replace('    name = "mine"\n', ""),
        "mine.py, line 4: Mine has no name: write name = '...'",
    ),
    "a name that is taken": (MINE.replace('"mine"', '"bigan"'), "the name 'bigan' is taken, by 'bigan' of"),
    "a name but for its case": (MINE.replace('"mine"', '"BiGAN"'), "taken, by 'bigan' of"),
    "twice the same": (
        MINE + MINE.replace("class Mine", "class Other"),
        "mine.py, line 11: the name 'mine' is taken, by 'mine' of",
    ),
    "a reference's name": (MINE.replace('"mine"', '"raw pixels"'), "a row next to the models"),
    "no name of a folder": (
        MINE.replace('"mine"', '"a/b"'),
        "mine.py, line 4: the name 'a/b': folders are called by it",
    ),
    "no string": (MINE.replace('"mine"', "3"), "mine.py, line 4: the name 3"),
    "no title of its own": (MINE.replace('    title = "Mine"\n', ""), "has the title of 'bigan', 'BiGAN'"),
    "no title of its own, beside another": (
        MINE + "class Other(Mine):\n    name = 'other'\n",
        "has the title of 'mine', 'Mine'",
    ),
    "little declared": (
        "from alibench.models.base import Model\nclass Mine(Model):\n    name = 'mine'\n",
        "line 2: Mine declares too little, write in it: title = '...', source = '...', players = {",
    ),
    "a player without a list": (
        MINE + "    players = {'generator': 'encoder'}\n",
        "write in it: players = {",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    text, told = BAD[case]
    path = tmp_path / "mine.py" if text is None else written(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        plugins.load(path)
    assert told in str(refused.value)
    assert not plugins.LOADED
    assert set(REGISTRY) == set(MODELS)
    assert not any(name.startswith(blame.MODULE) for name in sys.modules)


BROKEN = {
    "it cannot be built": (
        MINE + "    def __init__(self, networks):\n        super().__init__(networks.nothing)\n",
        "mine.py, line 9, in __init__: AttributeError",
    ),
    "it cannot be trained": (
        MINE + "    def game(self, logits, y=None):\n        return logits['nothing']\n",
        "mine.py, line 9, in game: KeyError: 'nothing'",
    ),
    "training it ends the process": (
        "import sys\n" + MINE + "    def game(self, logits, y=None):\n        sys.exit(0)\n",
        "mine.py, line 10, in game: SystemExit: 0",
    ),
    "what was trained elsewhere raises": (
        "class Mine:\n    name = 'mine'\n    def sample(self, n):\n        raise OSError('no weights')\n",
        "mine.py, line 4, in sample: OSError: no weights",
    ),
    "what was trained elsewhere needs more": (
        "class Mine:\n    name = 'mine'\n    def __init__(self, path): ...\n    def sample(self, n): ...\n",
        "mine.py, line 1: TypeError: Mine.__init__() missing 1 required positional argument: 'path'",
    ),
    "its samples are of another shape, decorated": (
        "import torch\nclass Mine:\n    name = 'mine'\n    @torch.no_grad()\n"
        "    def sample(self, n):\n        return torch.rand(n, 8, 8)\n",
        "mine.py, line 4, in sample: samples come as a tensor (16, 8, 8): (16, 1, 8, 8) is expected",
    ),
    "its samples are too few": (
        "import torch\nclass Mine:\n    name = 'mine'\n    def sample(self, n):\n        return "
        "torch.rand(3, 1, 8, 8)\n",
        "mine.py, line 2: sample(16) returned a tensor (3, 1, 8, 8): 16 samples as one tensor are needed",
    ),
    "its codes are no vectors": (
        "class Mine:\n    name = 'mine'\n    def encode(self, x):\n        return x\n",
        "mine.py, line 1: encode of 40 images returned a tensor (40, 1, 8, 8)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_fails_on_a_few_samples_is_said_before_anything_is_trained(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, told = BROKEN[case]
    path, out = written(tmp_path, text), tmp_path / "out"
    assert (
        main(["run", "digits", "--plugin", str(path), "--models", "ali", "mine", *TINY, "--out", str(out)])
        == 2
    )
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
    assert not out.exists()


def test_what_ends_the_command_after_its_rehearsal_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import sys\n" + MINE + "    def __init__(self, networks):\n        sys.exit(0)\n"
    monkeypatch.setattr(checkup, "rehearse", lambda suites: None)
    out = tmp_path / "out"
    given = ["--plugin", str(written(tmp_path, text)), "--models", "mine", *TINY, "--out", str(out)]
    assert main(["run", "digits", *given, "--dry-run"]) == 2
    message = capsys.readouterr().err
    assert "mine.py, line 10, in __init__: SystemExit: 0\n" in message
    assert message.count("\n") == 1
    assert not out.exists()


def test_ctrl_c_while_a_plug_in_is_imported_is_no_mistake_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "raise KeyboardInterrupt\n")
    assert main(["list", "--plugin", str(path)]) == 130
    assert capsys.readouterr().err.startswith("alibench: ended at once")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["tune", "digits", "--models", "pca-gaussian"],
            "'pca-gaussian' was trained elsewhere, so there is nothing",
        ),
        (
            ["run", "digits", "--set", "model.ali.compute=pca-gaussian"],
            "was trained elsewhere, nobody knows how long",
        ),
        (
            ["regression", "digits", "--set", 'models=["ali", "pca-gaussian"]'],
            "was trained elsewhere, so there is nothing",
        ),
        (["run", "digits", "--models", "pca-gausian"], "did you mean 'pca-gaussian'?"),
    ],
)
def test_what_was_trained_elsewhere_trains_nowhere(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--plugin", str(ELSEWHERE), "--device", "cpu"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "statement", ["import benchmarks", "from models.ali import ALI", "import results as r"]
)
def test_a_plug_in_that_imports_a_room_by_its_old_name_is_told_the_new_one(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = statement.replace(".", " ").split()[1]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place or ".").resolve() != ROOT])
    with pytest.raises(BadInput, match=rf"mine\.py, line 1: .*: import it as alibench\.{room}$"):
        plugins.load(written(tmp_path, f"{statement}\n"))


@pytest.mark.parametrize("room", blame.ROOMS)
def test_in_the_checkout_the_old_names_are_refused(room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: import it as alibench.{room}")
