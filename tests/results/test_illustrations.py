"""README's table and pictures are those of the committed results."""

import re
from pathlib import Path

import numpy as np

from alibench.results import illustrations, rows

ROOT = Path(__file__).parents[2]


def test_the_session_writes_into_the_checkout() -> None:
    assert illustrations.ROOT == ROOT  # not into the folder of the links, by which it is imported here


def test_readmes_table_is_made_from_committed_rows() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert illustrations.table() in readme
    frame = rows.read(ROOT / "results" / "reference" / "digits")
    errors = frame.query("model == 'ali' and metric == 'reconstruction_error' and protocol == 'mean code'")
    of_seeds = errors.groupby("seed").value.mean()
    cell = f"{np.mean(of_seeds):.4f} ± {np.std(of_seeds, ddof=1):.4f}"
    assert re.search(rf"\| ALI +\| +10 \| +{cell} ", readme)


def test_the_pictures_are_those_that_the_project_makes(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    pages = {"README.md": illustrations.table(), "docs/papers.md": illustrations.states()}
    for page in pages:
        (tmp_path / page).write_text("<!-- made by nox -s pictures -->\n\nold\n\n<!-- end -->\n")
    illustrations.write(tmp_path)
    for page, made in pages.items():
        assert made in (tmp_path / page).read_text(encoding="utf-8")
        assert made in (ROOT / page).read_text(encoding="utf-8"), f"{page}: run nox -s pictures"
    for name in ("game", "digits"):
        made, kept = (folder / "docs" / "figures" / f"{name}.svg" for folder in (tmp_path, ROOT))
        shapes = [len(re.findall("<path|<use", path.read_text())) for path in (made, kept)]
        assert shapes[0] == shapes[1] > 20  # digits behind the point differ between versions of the library


def test_documents_name_only_files_that_are_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
