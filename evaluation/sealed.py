"""Sealed files: JSON or tensors with the version of their format and a checksum of all that is read.

Damage is noticed instead of becoming a number. A checksum says that a file is whole, not who made it: so
contents must also fit the schema of their kind, and reading them runs no code.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from alibench.evaluation.files import Damaged, digest, encodable, one_line, opened, read, replace, sha256_of

LABEL = "alibench"  # the entry of a safetensors file's metadata with its kind, version and checksum
# the control characters of files.CONTROL, as JSON's text escapes them
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\(?:[bfr]|u00(?:[01]|7f|[89])|u20(?:2[89a-e]|6[6-9]))")


def _unusable(path: Path, version: Any, expected: int) -> Damaged:
    if isinstance(version, int) and version != expected:
        return Damaged(f"{path} has version {str(version)[:20]} of the format, this is {expected}")
    return Damaged(f"{path} is damaged")


# ------------------------------------------------------------------------------------------------ JSON


def write_json(
    path: Path, kind: str, version: int, body: Any, dumps: Callable[[Any], str] = json.dumps
) -> None:
    """Write {"version", "sha256", KIND: body}; `dumps` lays out the body. Raises OSError."""
    # The sum is of the body's text as `dumps` lays it out, so a reader lays it out again.
    text = dumps(body)
    replace(path, f'{{"version": {version}, "sha256": "{sha256_of(text)}",\n"{kind}": {text}}}\n')


def read_json(
    path: Path,
    kind: str,
    version: int,
    schema: Any = Any,
    dumps: Callable[[Any], str] = json.dumps,
    links: bool = False,
) -> Any:
    """Return the body, which fits `schema`. Raises Damaged, or OSError if the file cannot be read."""
    # Whatever is wrong with a stranger's file shows as one of these errors.
    raw = read(path, links=links)
    try:
        stored = json.loads(raw)
        stored_version = stored["version"]
        text = dumps(stored[kind])
        whole = stored_version == version and stored["sha256"] == sha256_of(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole, stored_version = False, version

    if not whole:
        raise _unusable(path, stored_version, version)
    check_body(path, stored[kind], schema, text)
    return stored[kind]


def check_body(path: Path, body: Any, schema: Any, text: str) -> None:
    """Raise Damaged for a body that `read_json` would not take; `text` is its JSON."""
    # JSON has escapes for halves of characters, which cannot be written
    if _ESCAPED.search(text) or ("\\ud" in text and not encodable(body)):
        raise Damaged(f"{path} holds control characters, which alibench never writes")
    check_schema(path, body, schema)


def check_schema(path: Path, body: Any, schema: Any) -> None:
    """Raise Damaged, naming the entry, for a body that does not fit its schema."""
    try:
        msgspec.convert(body, schema, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        # msgspec quotes the pattern, which says nothing to a reader
        pattern = r"Expected `str` matching regex .*(?= - at)"
        reason = one_line(re.sub(pattern, "a text that cannot be there", str(error)))
        raise Damaged(f"{path} is not what alibench writes ({reason})") from None


# ------------------------------------------------------------------------------------------------ tensors


def write_tensors(
    path: Path, kind: str, version: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> None:
    """Write tensors, and JSON about them. Equal contents make equal files. Raises OSError."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory
        shared = {other.untyped_storage().data_ptr() for other in kept.values()}
        kept[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in shared else tensor

    text = json.dumps(about or {})
    label = {"kind": kind, "version": version, "sha256": _content(kind, text, kept), "about": text}
    # one entry of metadata: several would stand in random order
    replace(path, save(kept, {LABEL: json.dumps(label)}))


def read_tensors(
    path: Path, kind: str, version: int, schema: Any = dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the JSON about them, which fits `schema`.

    A safetensors file can hold tensors and text alone, so nothing in it can run. Raises Damaged, or OSError.
    """
    with opened(path, "arrays", links=False):
        # safe_open takes no file, and would wait for a pipe.
        pass

    # The schema is looked at once the sum is right: else the file is damaged, not another version's.
    stored_version = version
    try:
        with safe_open(path, "pt") as file:
            label = json.loads((file.metadata() or {})[LABEL])
            stored_version = int(label["version"]) if label["kind"] == kind else version
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is not a dict
        if stored_version == version and label["sha256"] == _content(kind, label["about"], tensors):
            about = json.loads(label["about"])
            check_schema(path, about, schema)
            return tensors, about
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError):
        pass
    raise _unusable(path, stored_version, version)


def _content(kind: str, about: str, tensors: Mapping[str, Tensor]) -> str:
    return digest(kind, about, *(part for name in sorted(tensors) for part in (name, tensors[name])))
