"""Mistakes in the user's models, each in one line that names file, line and function."""

import inspect
import traceback
from pathlib import Path

from alibench.benchmarks.data.samples import shown
from alibench.evaluation.errors import BadInput, CommandEnds
from alibench.evaluation.objects import ExternalModel
from alibench.models.base import Model

MODULE = "alibench_plugin_"  # how the names of plug-ins' modules begin
LONGEST = 300  # characters of an exception's message
ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "evaluation", "results", "benchmarks")  # of alibench; once imported by these names alone
PLACES: dict[type[Model], str] = {}  # where each of the user's models is defined


# what passes through a model of the user's and is not a mistake in it
ENDS = (KeyboardInterrupt, CommandEnds)


class Blamed(BadInput):
    """A plug-in cannot be used for a mistake in it; the message says where it is."""


def one_line(error: BaseException) -> str:
    """Return an exception in a line; an import of a room by its old name comes with the new one."""
    message = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, ModuleNotFoundError) and error.name in ROOMS:
        message += f": import it as alibench.{error.name}"
    if isinstance(error, BadInput):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def in_plugin(error: BaseException) -> str:
    """Return an exception with the innermost line of a plug-in that it passed; empty if it passed none."""
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(MODULE)
    ]
    if not frames:
        return ""

    code, line = frames[-1]
    function = "" if code.co_name == "<module>" else f", in {code.co_name}"
    return f"{shown(Path(code.co_filename))}, line {line}{function}: {one_line(error)}"


def in_model(error: BaseException, kind: type[Model]) -> str:
    """Return an exception with its line in a plug-in, or with the place where its model is defined."""
    if isinstance(error, Blamed):
        return str(error)
    if line := in_plugin(error):
        return line

    # it was raised by our code, which the model called or inherits
    *_, (frame, number) = traceback.walk_tb(error.__traceback__)
    file, within = Path(frame.f_code.co_filename).resolve(), ""
    if not isinstance(error, BadInput) and any(file.is_relative_to(ROOT / room) for room in ROOMS):
        within = f" (in {frame.f_code.co_name}, {file.relative_to(ROOT)}, line {number})"
    return f"{PLACES[kind]}: {one_line(error)}{within}"


def place(kind: type[Model], *methods: str) -> str:
    """Return where a plug-in defines a model's first of these methods, or where the model is defined."""
    owner = kind.thing if issubclass(kind, ExternalModel) else kind
    for name in methods:
        method = inspect.unwrap(getattr(owner, name, None))  # type: ignore[arg-type]
        code = getattr(method, "__code__", None)
        if code and str(method.__module__).startswith(MODULE):
            return f"{shown(Path(code.co_filename))}, line {code.co_firstlineno}, in {code.co_name}"
    return PLACES[kind]
