"""Where files of the repository stand on the site, and links from page to page.

The pages are written to be read on GitHub, where a link is a path in the repository. Most of these files are
pages or pictures of the site too; what is not, such as code, is linked to where the repository is published.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "models/base.py": "models/base.md",  # made from its docstrings
}
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def address_of(path: str) -> str | None:
    """Return the address on the site of a file of the repository, by their paths; None if it has none."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("results/") and path.endswith((".md", ".png")):
        return path
    return PAGES.get(path)


def source_of(address: str) -> str:
    """Return the path in the repository of a page of the site; a made page stands beside those of docs/."""
    sources = {address: path for path, address in PAGES.items()}
    return sources.get(address) or (address if address.startswith("results/") else f"docs/{address}")


def relinked(markdown: str, source: str, repository: str | None) -> str:
    """Return a page with links for the site: `source` is its path in the repository.

    Files that are not on the site are linked to `repository`, the address of its front page; without one
    their links are plain text. Raises FileNotFoundError for a link to a file that is not there.
    """
    here = address_of(source) or ""

    def mended(link: re.Match[str]) -> str:
        mark, text, target, anchor = link.groups("")
        if ":" in target:  # another site
            return link[0]

        # Pages that are made stand beside the written ones; MkDocs itself finds links to what is not there.
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        address = address_of(path)
        if address is not None:
            return f"{mark}[{text}]({posixpath.relpath(address, posixpath.dirname(here) or '.')}{anchor})"

        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{source}: there is no file {path}, which it links to")
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"[{text}]({repository.rstrip('/')}/{kind}/HEAD/{path}{anchor})" if repository else text

    # What stands between fences is code.
    parts, end = [], 0
    for block in CODE.finditer(markdown):
        parts += [LINK.sub(mended, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(mended, markdown[end:])])
