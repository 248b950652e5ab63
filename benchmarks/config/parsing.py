"""TOML tables checked against a schema, and options against a signature."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec.inspect import DataclassType, DictType, ListType, Type, UnionType, type_info

from alibench.evaluation.errors import BadInput, check_name

NAMING = (
    "folders are called by it, so name it by a letter or digit and up to 39 letters, digits, spaces or "
    "'_.+()-'"
)


def parse(table: Mapping[str, Any], schema: Any, where: str) -> Any:
    """Return a table as the dataclass `schema`. Raises BadInput naming an unknown, missing or wrong field."""
    _check_fields(table, _fields(schema), where)
    return converted(table, schema, where)


@functools.cache
def _fields(schema: Any) -> Type:
    """Return what msgspec knows of a dataclass; the tables of a suite ask for the same few."""
    return type_info(schema)


def _check_fields(value: Any, kind: Type, where: str) -> None:
    """Raise BadInput for an unknown field, in nested tables too, with the nearest name.

    msgspec refuses unknown fields of its own Structs alone, and gives no nearest name.
    """
    match kind:
        case DataclassType() if isinstance(value, dict):
            known = {field.name: field.type for field in kind.fields}
            for key, part in value.items():
                check_name(key, known, f"{where}: unknown field")
                _check_fields(part, known[key], f"{where}, {key}")

        case DictType(value_type=DataclassType(cls=schema)) if isinstance(value, dict):
            for name, part in value.items():
                parse(part, schema, f"{where}.{name}")  # msgspec's messages do not say which table it is

        case ListType() if isinstance(value, list):
            for part in value:
                _check_fields(part, kind.item_type, where)

        case UnionType():
            for choice in kind.types:
                _check_fields(value, choice, where)


def converted(value: Any, kind: Any, where: str) -> Any:
    """Return a TOML value as a type. Raises BadInput that says which type is expected, at which field."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        message = str(error).replace("$.", "").replace("`object`", "`table`").replace("`", "'")
        raise BadInput(f"{where}: {message}") from None


def check_options(function: Callable[..., Any], options: Mapping[str, Any], where: str, owner: str) -> None:
    """Raise BadInput for an option that a family's or model's signature lacks, or a value of another type."""
    if not options:
        return
    signed: Any = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        hints = get_type_hints(signed, include_extras=True)
    except NameError as error:
        raise BadInput(
            f"{where}: the types of the options of {owner} cannot be read ({error}): import them"
        ) from None

    known = [name for name in inspect.signature(signed).parameters if name not in ("self", "networks")]
    for key, value in options.items():
        check_name(key, known, f"{where}: {owner} has no option")
        converted(value, hints.get(key, Any), f"{where}.{key}")
