"""The documentation's site: each page is in its navigation, each model and metric has one, links lead on."""

import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import alibench
from alibench.evaluation.metrics import METRICS
from alibench.models import REGISTRY

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://example.org/alibench"


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules that make the pages and the links; MkDocs imports them by these names too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs" / "web"))
        yield importlib.import_module("pages"), importlib.import_module("links")


@pytest.fixture(scope="module")
def made(web: tuple[ModuleType, ModuleType]) -> dict[str, str]:
    """The pages that are made, by address."""
    pages: dict[str, str] = web[0].made()
    return pages


def test_the_navigation_has_every_page_once(made: dict[str, str]) -> None:
    written = [page.name for kind in ("*.md", "*.ipynb") for page in (ROOT / "docs").glob(kind)]
    _, _, nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")
    entries = re.findall(r"- [^:]+: (\S+)$", nav, re.MULTILINE)
    in_folders = [page for entry in entries if entry.endswith("/") for page in made if page.startswith(entry)]
    pages = [entry for entry in entries if not entry.endswith("/")] + in_folders
    assert sorted(pages) == sorted([*written, *made])


def test_every_model_and_metric_has_a_page(made: dict[str, str]) -> None:
    for name, model in REGISTRY.items():
        page = made[f"models/{name}.md"]
        assert page.startswith(f"# {model.title}\n")
        assert model.source in page
        assert f"\n::: {model.__module__}\n" in page
        assert f"({name}.md)" in made["models/index.md"]
    for name, module in METRICS.items():
        page = made[f"metrics/{name}.md"]
        assert f"\n::: {module.__name__}\n" in page
        assert all(f"| `{column.metric}` | {column.title} |" in page for column in module.COLUMNS)
        assert f"({name}.md)" in made["metrics/index.md"]


def test_pages_say_what_is_known_of_ali_and_of_accuracy(made: dict[str, str]) -> None:
    ali, svm = made["models/ali.md"], made["metrics/svm.md"]
    assert "| encoder | learnt with it |\n| draws z | yes |" in ali
    assert "| likelihood | – |" in ali
    assert "| `svm_accuracy` | SVM accuracy, % | ↑ higher | 2 |" in svm


def test_the_python_page_has_all_that_alibench_offers(made: dict[str, str]) -> None:
    for name in alibench.__all__:
        assert re.search(rf"^::: alibench\.\S+\.{name}$", made["api.md"], re.MULTILINE)


def test_committed_results_have_titles_and_pictures_of_their_own(made: dict[str, str]) -> None:
    page = made["results/reference/mnist/tables.md"]
    assert page.startswith("# Tables: mnist\n")
    pictures = re.findall(r"!\[[^]]*\]\((figures/\S+)\)", page)
    assert len(pictures) == 4
    assert all((ROOT / "results/reference/mnist" / picture).exists() for picture in pictures)


@pytest.mark.parametrize(
    ("source", "link", "on_the_site"),
    [
        ("README.md", "[a](docs/report.md#b)", "[a](report.md#b)"),
        ("README.md", "![a](docs/figures/game.svg)", "![a](figures/game.svg)"),
        ("docs/report.md", "[a](../README.md#results)", "[a](index.md#results)"),
        ("docs/report.md", "[a](../models/base.py)", "[a](models/base.md)"),
        ("docs/report.md", "[a](../models/ali.py)", f"[a]({REPOSITORY}/blob/HEAD/models/ali.py)"),
        ("docs/report.md", "[a](../models/tables)", f"[a]({REPOSITORY}/tree/HEAD/models/tables)"),
        ("docs/models/ali.md", "[a](../own-model.md)", "[a](../own-model.md)"),
        ("results/reference/mnist/tables.md", "[a](../../../docs/speed.md)", "[a](../../../speed.md)"),
        ("docs/report.md", "[a](https://example.com/b.md) [b](#c)", "[a](https://example.com/b.md) [b](#c)"),
        ("docs/report.md", "```\n[a](../models/ali.py)\n```\n", "```\n[a](../models/ali.py)\n```\n"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(
    web: tuple[ModuleType, ModuleType], source: str, link: str, on_the_site: str
) -> None:
    assert web[1].relinked(link, source, REPOSITORY) == on_the_site


def test_code_is_named_without_a_link_where_nothing_is_published(web: tuple[ModuleType, ModuleType]) -> None:
    links = web[1]
    assert links.relinked("see [`ali.py`](../models/ali.py).", "docs/report.md", None) == "see `ali.py`."
    with pytest.raises(FileNotFoundError, match=r"docs/report\.md: there is no file models/nobody\.py"):
        links.relinked("[a](../models/nobody.py)", "docs/report.md", None)


def test_every_link_of_every_page_leads_to_a_place(
    web: tuple[ModuleType, ModuleType], made: dict[str, str]
) -> None:
    links = web[1]
    pages = {page.name: page.read_text() for page in (ROOT / "docs").glob("*.md")} | made
    for address, markdown in pages.items():
        mended = links.relinked(markdown, links.source_of(address), None)
        for _, _, target, _ in links.LINK.findall(links.CODE.sub("", mended)):
            place = posixpath.normpath(posixpath.join(posixpath.dirname(address), target))
            is_file = (ROOT / "docs" / place).is_file() or (ROOT / place).suffix == ".png"
            assert ":" in target or place in pages or is_file, f"{address}: {target}"
