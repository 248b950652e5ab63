"""What MkDocs calls when it builds the site: pages that are made, and links that lead out of docs/."""

import logging
from typing import Any

import pages
from links import ROOT, relinked, source_of
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.links")  # by --strict, what it warns of fails


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made where the navigation has their folder."""
    config.nav = _with_folders(config.nav or [], list(pages.made()))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and pictures of committed results."""
    for address, markdown in pages.made().items():
        files.append(File.generated(config, address, content=markdown))
    for picture in sorted((ROOT / "results" / "reference").glob("*/figures/*.png")):
        address = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, address, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page with links for the site; a link to a file that is not there is a warning."""
    address = page.file.src_uri
    try:
        return relinked(markdown, source_of(address), config.repo_url)
    except FileNotFoundError as error:
        log.warning(error)
        return markdown


def _with_folders(nav: Any, addresses: list[str]) -> Any:
    """Return a navigation whose folders, such as models/, are lists of the pages in them."""
    if isinstance(nav, list):
        return [_with_folders(entry, addresses) for entry in nav]
    if isinstance(nav, dict):
        return {title: _with_folders(entry, addresses) for title, entry in nav.items()}
    return [address for address in addresses if address.startswith(nav)] if nav.endswith("/") else nav
