"""How options are declared: by their spelling in the help, in groups, with types that name what was meant."""

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from alibench.benchmarks.commands.command import Several, Valued

Declared = TypeVar("Declared", bound=Callable[..., Any])


def among(*names: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a completion by some words."""
    return lambda ctx, param, incomplete: [name for name in names if name.startswith(incomplete)]


DIR, FILE = click.Path(file_okay=False, path_type=Path), click.Path(dir_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)  # either of them
TYPES: dict[str, Any] = {
    **{"N": int, "SHARE": float, "SECONDS": float},
    **{"DIR": DIR, "FILE": FILE, "PATH": PATH},
}


def option(spelling: str, text: str, *names: str, **more: Any) -> Callable[[Declared], Declared]:
    """Return an option spelt as in its help: "--resume", "--seeds N", for several words "--models M ...".

    The spelling says its type. `names`: the argument that it fills, if not one of its own name.
    """
    # A word that follows is a value, by whose name its type is known.
    name, _, value = spelling.partition(" ")
    if not value:
        return click.option(name, *names, is_flag=True, help=text, **more)

    word, _, several = value.partition(" ")
    more = {"metavar": value, "type": TYPES.get(word), "cls": Several if several else Valued, **more}
    return click.option(name, *names, help=text, **more)


def grouped(
    name: str, kind: type, *options: Callable[[Declared], Declared]
) -> Callable[[Declared], Declared]:
    """Return a decorator: a command gets the values of some options together, as its argument `name`.

    A command may have more options that are fields of `kind`; fields without an option keep their defaults.
    """
    names = {field.name for field in fields(kind)}

    def decorate(function: Declared) -> Declared:
        @functools.wraps(function)
        def called(**values: Any) -> Any:
            # Not all fields have an option in each command.
            held = {key: values.pop(key) for key in names & values.keys()}
            return function(**values, **{name: kind(**held)})

        for option in reversed(options):
            called = option(called)
        return called  # type: ignore[return-value]

    return decorate
