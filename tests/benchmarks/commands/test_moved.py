"""Data that only moved are found again: an output goes on, and is evaluated, wherever they lie now."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alibench.benchmarks.commands.cli import main
from alibench.results import rows

pytestmark = pytest.mark.usefixtures("here")
SMALL = ("--device", "cpu", "--models", "vae", "--set", "steps=2", "--set", "metrics=['reconstruction']")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seventy grey pictures in a folder."""
    folder = tmp_path / "before" / "mine"
    folder.mkdir(parents=True)
    for number, pixels in enumerate(np.random.RandomState(0).randint(256, size=(70, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def moved(pictures: Path) -> Path:
    """Move the pictures, and forget on this machine that they were read."""
    place = pictures.parent.parent / "now" / pictures.name
    place.parent.mkdir()
    return Path(shutil.move(pictures, place))


def test_a_folder_goes_on_where_its_data_moved(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, suite = str(tmp_path / "out"), tmp_path / "my suite.toml"
    assert main(["new-suite", f"folder:{pictures}", "--out", str(suite)]) == 0
    command = [*SMALL, "--seeds", "1", "--out", out]
    assert main(["run", str(suite), *command]) == 0
    (new := moved(pictures)).joinpath("0.png").touch()
    (tmp_path / "elsewhere").mkdir()
    suite = Path(shutil.move(suite, tmp_path / "elsewhere" / suite.name))
    capsys.readouterr()
    assert main(["run", str(suite), *command, "--data", f"folder:{new}", "--resume"]) == 0
    line = f"its data are read from folder:{new} now; they hold what folder:{pictures} held"
    assert line in capsys.readouterr().err
    # other pictures are other data
    Image.new("L", (8, 8)).save(new / "0.png")
    assert main(["run", str(suite), *command, "--data", f"folder:{new}", "--resume"]) == 2
    said = capsys.readouterr().err
    assert "begun with something else" in said
    assert "the data of suite 'my suite'" in said


def test_an_output_is_evaluated_with_its_data_elsewhere(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert main(["run", f"folder:{pictures}", *SMALL, "--seeds", "1", "--out", str(out)]) == 0
    new = moved(pictures)
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "another machine"))
    capsys.readouterr()
    assert main(["evaluate", str(out)]) == 2
    assert "name it by --data" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--data", f"folder:{new}", "--out", str(again)]) == 0
    before, after = (rows.read(place) for place in (out, again))
    measured = before[before.metric.isin(after.metric.unique())]
    assert measured.value.dropna().tolist() == after.value.dropna().tolist()
    # other data are refused by name, and an unknown place with the remedy that evaluate has
    capsys.readouterr()
    (new / "0.png").unlink()
    assert main(["evaluate", str(out), "--data", f"folder:{new}"]) == 2
    assert "holds other data" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--data", f"folder:{pictures}"]) == 2
    assert f"there is no folder {pictures}: name one by --data folder:PATH" in capsys.readouterr().err
