"""TOML tables checked against a schema, and --set assignments."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import msgspec

from alibench.evaluation.errors import BadInput, check_name


def parse(raw: Mapping[str, Any], schema: Any, where: str) -> Any:
    """Return `raw` as the dataclass `schema`. Raises BadInput naming an unknown, missing or wrong field."""

    def refuse_unknown(table: Any, kind: Any, path: str) -> None:
        hints = get_type_hints(kind)
        for key, value in table.items():
            check_name(key, [f.name for f in fields(kind)], f"{path}: unknown field")
            inner = [t for t in (hints[key], *getattr(hints[key], "__args__", ())) if is_dataclass(t)]
            named = isinstance(value, dict) and getattr(hints[key], "__origin__", None) is dict
            tables = (
                value.items()
                if named
                else [("", part) for part in (value if isinstance(value, list) else [value])]
            )
            for name, part in tables if inner else []:
                place = f"{path}, {key}.{name}".rstrip(".")
                if isinstance(part, dict):
                    refuse_unknown(part, inner[0], place)
                if named:
                    converted(part, inner[0], place)  # here, since msgspec does not say which of them it was

    refuse_unknown(raw, schema, where)
    return converted(raw, schema, where)


def converted(raw: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        message = str(error).replace("$.", "").replace("`object`", "`table`").replace("`", "'")
        raise BadInput(f"{where}: {message}") from None
