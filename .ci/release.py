"""Print a release's notes, once its tag, versions and changelog agree.

    python .ci/release.py v0.2.0                                     # prints the notes
    python .ci/release.py v0.2.0 --links https://HOST/OWNER/PROJECT  # and rewrites README.md for an index

An index shows README.md without the files that it links to, so `--links` gives its links an address, by tag.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)\s]+)\)")  # !, text and path of a link into the checkout


def problems(tag: str, root: Path) -> list[str]:
    """Return what does not agree with a tag, a line each."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    versions = {"pyproject.toml": project["version"], "CITATION.cff": cited and cited[1]}
    found = [
        f"{file} has version {version}, the tag is {tag}: change one of the two"
        for file, version in versions.items()
        if tag != f"v{version}"
    ]
    if not notes(tag, root):
        found.append(f"CHANGELOG.md has nothing below ## [{tag.removeprefix('v')}]: write what changed there")
    return found


def notes(tag: str, root: Path) -> str:
    """Return what the changelog says of a tag's version, or ""."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## \[(.+?)\].*\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(tag.removeprefix("v"), "").strip()


def with_addresses(text: str, repository: str, tag: str) -> str:
    """Return Markdown whose links into the checkout are links into a repository, pictures as files."""

    def address(link: re.Match[str]) -> str:
        picture, title, path = link.groups()
        return f"{picture}{title}({repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return LINK.sub(address, text)


def main() -> int:
    """Do what the command line says; return its exit code."""
    parser = argparse.ArgumentParser(description="Print a release's notes, once all that names it agrees.")
    parser.add_argument("tag", help="v and the version, as in v0.2.0")
    parser.add_argument("--links", metavar="URL", help="rewrite README.md, with links into this repository")
    arguments = parser.parse_args()
    found = problems(arguments.tag, ROOT)
    if found:
        print(*found, sep="\n", file=sys.stderr)
        return 2

    if arguments.links:
        readme = ROOT / "README.md"
        readme.write_text(
            with_addresses(readme.read_text(encoding="utf-8"), arguments.links, arguments.tag),
            encoding="utf-8",
        )
    print(notes(arguments.tag, ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
