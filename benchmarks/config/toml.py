"""TOML files that are written from templates: values, tables and comments."""

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

WIDTH = 108  # of a comment

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """Return a TOML file, with at most one blank line in a row."""
    # tables that are left out leave blank lines
    text = TEMPLATES.get_template(template).render(values)
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def printable(text: str) -> str:
    """Return text of the user's for a comment or a terminal: in one line, without control characters."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def comment(text: str | Iterable[str]) -> str:
    """Return paragraphs as wrapped comment lines; in a text they are separated by blank lines."""
    paragraphs = re.split(r"\n\s*\n", text) if isinstance(text, str) else text
    wrapper = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    lines = [line for each in paragraphs for line in wrapper.wrap(printable(" ".join(each.split())))]
    return "".join(f"# {line}\n" for line in lines)


def value(of: Any) -> str:
    """Return a text, number, truth value or list; TOML's strings are JSON's but for one sign."""
    if isinstance(of, str):
        return json.dumps(of, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(of, list):
        return f"[{', '.join(map(value, of))}]"
    return f"{of:_}" if type(of) is int else str(of).lower()


def entries(table: Mapping[str, Any]) -> str:
    """Return a table's entries, a line each, without the tables in it."""
    values = {key: entry for key, entry in table.items() if not isinstance(entry, Mapping)}
    return "\n".join(f"{key} = {value(entry)}" for key, entry in values.items())


def tables(table: Mapping[str, Any], name: str) -> str:
    """Return a table and those in it, each under its name; empty ones are left out."""
    header = f"[{name}]\n{entries(table)}" if entries(table) else ""
    inner = [tables(entry, f"{name}.{key}") for key, entry in table.items() if isinstance(entry, Mapping)]
    return "\n\n".join(filter(None, [header, *inner]))


TEMPLATES.filters |= {
    "shown": printable,
    "comment": comment,
    "toml": value,
    "entries": entries,
    "tables": tables,
}
