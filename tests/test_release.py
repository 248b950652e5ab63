"""A release is refused until tag, versions and changelog agree; an index gets links with addresses."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NAMED = ("README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the files that a release looks at."""
    for name in (*NAMED, ".ci/release.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def release(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / ".ci" / "release.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_version_that_is_there_can_be_released(checkout: Path) -> None:
    done = release(checkout, f"v{VERSION}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in (ROOT / "CHANGELOG.md").read_text()
    assert not re.search(r"^## ", done.stdout, re.MULTILINE)  # of this version alone


def test_notes_are_those_of_the_tags_version_alone(checkout: Path) -> None:
    versions = f"## [{VERSION}] - 2026-01-02\n\nNew.\n\n### Fixed\n\n- This.\n"
    (checkout / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n\nLater.\n\n{versions}\n## [0.0.1]\n\nOld.\n"
    )
    assert release(checkout, f"v{VERSION}").stdout == "New.\n\n### Fixed\n\n- This.\n"


@pytest.mark.parametrize("name", ["pyproject.toml", "CITATION.cff", "CHANGELOG.md"])
def test_a_file_of_another_version_is_named_and_nothing_is_written(checkout: Path, name: str) -> None:
    path, before = checkout / name, (checkout / "README.md").read_text()
    path.write_text(path.read_text().replace(VERSION, "9.9.9"))
    done = release(checkout, f"v{VERSION}", "--links", "https://example.org/a/b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(name)
    assert done.stderr.count("\n") == 1
    assert (checkout / "README.md").read_text() == before


def test_an_index_gets_links_with_addresses_of_files_that_are_there(checkout: Path) -> None:
    address, tag = "https://example.org/a/b", f"v{VERSION}"
    assert release(checkout, tag, "--links", address).returncode == 0
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", (checkout / "README.md").read_text())
    assert all(link.startswith("https://") for _, link in links)
    ours = [(kind, link) for kind, link in links if link.startswith(address)]
    assert len(ours) > 20
    for kind, link in ours:
        part = "raw" if kind else "blob"
        path = link.removeprefix(f"{address}/{part}/{tag}/").partition("#")[0]
        assert (ROOT / path).is_file(), link
