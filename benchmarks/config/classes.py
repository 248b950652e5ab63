"""Models that a program hands over: classes of a notebook or script, objects that were trained elsewhere.

They have no file that another process could load, so that all their jobs are done in this process
(running/here.py).
"""

import functools
import inspect
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from alibench.benchmarks.config import blame, definitions
from alibench.evaluation import files
from alibench.models import REGISTRY
from alibench.models.base import Model

ADOPTED: dict[type[Model], str] = {}  # the hash of what its numbers depend on


def adopt(things: Iterable[Any]) -> list[str]:
    """Register the models among names, classes and objects; return the names of all, in order.

    Raises BadInput for what is not a model, or has the name of another.
    """
    names = list[str]()
    for thing in things:
        if isinstance(thing, str):
            names.append(thing)
            continue
        if any(kind is thing for kind in REGISTRY.values()):
            names.append(thing.name)  # one of the suite's own
            continue

        # checked like what a file defines
        kind, place = definitions.of_python(thing)
        definitions.check({kind: place}, complete=True)
        REGISTRY[kind.name], blame.PLACES[kind] = kind, place
        ADOPTED[kind] = fingerprint(thing)
        names.append(kind.name)
    return names


def fingerprint(thing: Any) -> str:
    """Return a hash of a class's code, with all of the user's that it refers to, and of a module's tensors.

    It is the same in another notebook or after a restart, wherever the lines stand. Arrays and tensors that
    code reads from elsewhere are not in it.
    """
    # an object that was trained elsewhere is its class with its weights
    kind = thing if isinstance(thing, type) else type(thing)
    tensors = thing.state_dict() if isinstance(thing, nn.Module) else {}
    parts = [part for pair in tensors.items() for part in pair]
    return files.digest(*_code_of(kind, kind.__module__, {}), *parts)


def _code_of(thing: Any, home: str, seen: dict[int, Any]) -> Iterator[str]:
    """Yield what a class or a function of the module `home` does, and what it refers to there does."""
    function = inspect.unwrap(getattr(thing, "fget", None) or getattr(thing, "__func__", thing))
    if isinstance(function, str | int | float):
        yield repr(function)
        return
    # each once: they may refer to one another
    if id(function) in seen:
        return
    seen[id(function)] = function
    # what is not the user's is known by the libraries' versions
    if isinstance(function, type | FunctionType) and function.__module__ != home:
        return

    parts: Iterable[Any] = ()
    if isinstance(function, type):
        bases = [base for base in function.__mro__ if base.__module__ == home]
        parts = [part for base in bases for pair in sorted(vars(base).items()) for part in pair]
    elif isinstance(function, FunctionType):
        yield from _text(function.__code__)
        parts = _referred(function)
    elif isinstance(function, functools.partial):
        parts = [function.func, function.args, function.keywords]
    elif isinstance(function, dict):
        parts = [*function.keys(), *function.values()]
    elif isinstance(function, tuple | list):
        parts = function
    for part in parts:
        yield from _code_of(part, home, seen)


def _referred(function: FunctionType) -> list[Any]:
    """Return what a function refers to: by its closure, its defaults and its names."""
    named = [function.__globals__.get(name) for name in sorted(_names(function.__code__))]
    held = [function.__defaults__ or (), function.__kwdefaults__ or {}]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it has no value yet
            held.append(cell.cell_contents)
    return [*held, *named]


def _text(code: CodeType) -> Iterator[str]:
    """Yield what code does, without its lines and files."""
    yield f"{code.co_code.hex()} {code.co_names}"
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _text(part)
        else:
            # the order of a set's members is another one in each process
            yield repr(sorted(map(repr, part)) if isinstance(part, frozenset) else part)


def _names(code: CodeType) -> set[str]:
    """Return the names that code and the functions within it look up."""
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return {*code.co_names}.union(*inner)
