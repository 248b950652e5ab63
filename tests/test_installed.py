"""Commands and imports work from a wheel, in a folder that has rooms of our names."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import TINY

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.commands


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what a wheel of this checkout installs."""
    place = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "source" / name, follow_symlinks=False)

    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(place / "source")], check=True)
    (wheel,) = place.glob("alibench-*.whl")
    zipfile.ZipFile(wheel).extractall(place / "site")
    return place / "site"


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Return a folder with rooms of the user's that have our names."""
    for room in ("models", "results", "evaluation", "benchmarks"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise RuntimeError('not ours')")
    return tmp_path


def python(site: Path, cwd: Path, *arguments: str) -> str:
    """Run Python on the wheel's files alone; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_takes_one_name(site: Path) -> None:
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"alibench"}
    assert (site / "alibench" / "py.typed").exists()
    assert not list(site.rglob("runs/.lock"))


def test_a_run_and_what_follows_it_work_from_the_wheel(site: Path, strange: Path) -> None:
    run = ("run", "quick", "--seeds", "1", "--models", "vae", *TINY)
    alibench = ("-P", "-m", "alibench")
    printed = python(site, strange, *alibench, *run)
    (out,) = (strange / "runs").iterdir()  # not in the folder of the installation
    assert str(out.relative_to(strange)) in printed.replace("\n", "")

    python(site, strange, *alibench, "table", str(out))
    python(site, strange, *alibench, "report", str(out))
    program = (
        "import alibench, pathlib, sys; assert pathlib.Path(alibench.__file__).is_relative_to(sys.argv[1]); "
        "from alibench import load_run, table; assert load_run(sys.argv[2]).sample is not None; "
        "assert len(table('ali-table-2'))"
    )
    python(site, strange, "-c", program, str(site), str(out / "runs" / "digits-vae-seed0"))


def test_commands_that_need_the_projects_own_results_find_them(site: Path, strange: Path) -> None:
    printed = python(site, strange, "-P", "-m", "alibench", "tables", "--out", "tables")
    assert "ali-table-2" in printed
    assert (strange / "tables" / "tables.md").exists()
    python(site, strange, "-P", "-m", "alibench", "regression", "--dry-run")
