"""README's table and pictures are those of the committed results."""

import re
from pathlib import Path

import numpy as np

from alibench.results import illustrations, papers, rows

ROOT = Path(__file__).parents[2]


def test_the_session_writes_into_the_checkout() -> None:
    assert illustrations.ROOT == ROOT  # not into the folder of the links, by which it is imported here


def test_tables_of_the_pages_are_made_from_committed_rows() -> None:
    for page in illustrations.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        places = illustrations.PLACE.findall(text)
        assert text.count("made by nox -s pictures -->") == len(places)
        for _, name, _ in places:
            assert illustrations.block(name) in text, f"{page}: run nox -s pictures"


def test_readmes_table_is_that_of_its_rows() -> None:
    frame = rows.read(papers.REFERENCE / "mnist")
    errors = frame.query("model == 'ali' and metric == 'reconstruction_error' and protocol == 'mean code'")
    of_seeds = errors.groupby("seed").value.mean()
    cell = f"{np.mean(of_seeds):.4f} ± {np.std(of_seeds, ddof=1):.4f}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"\| ALI +\| +{len(of_seeds)} \| +{cell} ", readme)


def _marks(svg: str) -> int:
    """Count lines, boxes and marks, without x axes and letters, which versions of the library choose."""
    axis = r'<g id="matplotlib\.axis_\d*[13579]">.*?(?=<g id="matplotlib\.axis_)'
    return len(re.findall('<path d=|<use xlink:href="#m', re.sub(axis, "", svg, flags=re.DOTALL)))


def test_the_pictures_are_those_that_the_project_makes(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for page in illustrations.PAGES:
        (tmp_path / page).write_text(
            "<!-- published, made by nox -s pictures -->\n\nold\n\n<!-- end -->\nkept\n"
        )
    illustrations.write(tmp_path)
    for page in illustrations.PAGES:
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert illustrations.block("published") in text
        assert "old" not in text.splitlines()
        assert text.endswith("<!-- end -->\nkept\n")
    for kept in (ROOT / "docs" / "figures").glob("*.svg"):
        made = tmp_path / "docs" / "figures" / kept.name
        assert _marks(made.read_text()) == _marks(kept.read_text()) > 20


def test_documents_name_only_files_that_are_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
