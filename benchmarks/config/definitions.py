"""What a user's file defines: models to be trained, and classes and objects that were trained elsewhere."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from alibench.benchmarks.config.blame import PLACES
from alibench.benchmarks.config.parsing import NAMING
from alibench.benchmarks.data.samples import shown
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import NAME
from alibench.evaluation.objects import ABLE, ExternalModel
from alibench.models import REGISTRY
from alibench.models.base import Model

# rows that stand next to the models in tables; a model of that name would be mixed up with them
REFERENCES = ("mean", "class mean", "PCA", "raw pixels", "untrained encoder", "noise", "held-out data")
SOURCE = "trained elsewhere"  # of a class or object that names no other


def defined(module: ModuleType) -> dict[type[Model], str]:
    """Return the models of a file's module, each with its place. Raises BadInput for one without a name."""
    # each once, by however many names
    named = {id(thing): thing for name, thing in vars(module).items() if not name.startswith("__")}
    things = [*named.values()]
    classes = [thing for thing in things if isinstance(thing, type) and thing.__module__ == module.__name__]

    # models of ours that are trained; one without a name is a base class of others
    trained = [kind for kind in classes if issubclass(kind, Model)]
    called = [kind for kind in trained if "name" in vars(kind)]
    for kind in trained:
        if not any(issubclass(other, kind) for other in called):
            raise BadInput(
                f"{_place(module, kind)}: {kind.__name__} has no name: write name = '...' in it, which "
                "suites call it by"
            )
    models = {kind: _place(module, kind) for kind in called}

    # anything that can be evaluated alone; the class of an object is not a second model
    objects = [
        thing
        for thing in things
        if not isinstance(thing, type) and _takes_part(thing) and _belongs(thing, module)
    ]
    kinds = {*trained, *map(type, objects)}
    others = [kind for kind in classes if kind not in kinds and _takes_part(kind)]
    return models | {_wrapped(module.__name__, thing): _place(module, thing) for thing in [*others, *objects]}


def of_python(thing: Any) -> tuple[type[Model], str]:
    """Return a class or an object of a program as a model, with its place. Raises BadInput."""
    if isinstance(thing, type) and issubclass(thing, Model) and "name" in vars(thing):
        return thing, f"class {thing.__qualname__}"
    what = f"class {thing.__qualname__}" if isinstance(thing, type) else f"a {type(thing).__name__}"
    if _takes_part(thing):
        return _wrapped(thing.__module__, thing), what
    raise BadInput(
        f"{what} is not a model: give a name, a class of alibench.models.base.Model with a name, or an "
        "object with a name and sample(n) or encode(x)"
    )


def _place(module: ModuleType, thing: Any) -> str:
    """Return where a class is defined, file and line; of an object the file."""
    where = shown(Path(str(module.__file__)))
    if not isinstance(thing, type):
        return where
    try:
        # a class that a function made may say its line, as every class does since Python 3.13
        return f"{where}, line {vars(thing).get('__firstlineno__') or inspect.getsourcelines(thing)[1]}"
    except OSError:
        # made by a call of type
        return where


def _takes_part(thing: Any) -> bool:
    """Return whether a class or an object can be evaluated: it has a name, and samples or encodes."""
    able = any(callable(getattr(thing, method, None)) for method in ("sample", "encode"))
    return able and isinstance(getattr(thing, "name", None), str)


def _belongs(thing: Any, module: ModuleType) -> bool:
    """Return whether an object is the module's: its class is, or it was given its name there."""
    return type(thing).__module__ == module.__name__ or "name" in getattr(thing, "__dict__", {})


def _wrapped(module: str, thing: Any) -> type[ExternalModel]:
    """Return a class or an object that was trained elsewhere as a model."""
    # a class is made once in a process, when it is needed: it may read or fit something large
    make = functools.cache(lambda: thing()) if isinstance(thing, type) else lambda: thing
    title, source = getattr(thing, "title", thing.name), getattr(thing, "source", SOURCE)
    return elsewhere(module, thing, lambda shape: make(), thing.name, title, source)


def elsewhere(
    module: str, thing: Any, make: Callable[[tuple[int, ...]], Any], name: str, title: str, source: str
) -> type[ExternalModel]:
    """Return a class or an object as a model; `make` returns the object, for the shape of the data."""
    able = {method for method in ABLE if callable(getattr(thing, method, None))}
    attributes: dict[str, Any] = {
        **{"name": name, "title": title, "source": source},
        **{"generative": "sample" in able, "inverts": "decode" in able},
        "inference": "learnt with it" if "encode" in able else "none",
        **{"thing": thing, "make": staticmethod(make), "__module__": module},
    }
    return type(name, (ExternalModel,), attributes)


def check(models: Mapping[type[Model], str], complete: bool) -> None:
    """Raise BadInput for models, each with its place, that cannot be registered under their names.

    They must be `complete`, as `undeclared` says, or have their names alone.
    """
    known, places = dict(REGISTRY), {**PLACES, **models}
    for kind, place in models.items():
        _check_name(kind, place, known, places)
        if complete and (lacking := undeclared(kind, known)):
            raise BadInput(f"{place}: {lacking}")
        known[kind.name] = kind


def _check_name(
    kind: type[Model], place: str, known: Mapping[str, type[Model]], places: Mapping[type[Model], str]
) -> None:
    name: object = kind.name
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput(f"{place}: the name {name!r}: {NAMING}")
    if name in REFERENCES:
        raise BadInput(f"{place}: the name '{name}' is that of a row next to the models: choose another")

    # runs have folders of their models' names, and some disks ignore case
    other = next((other for taken, other in known.items() if taken.casefold() == name.casefold()), None)
    if other is not None:
        owner = places.get(other) or shown(Path(inspect.getfile(other)))
        raise BadInput(f"{place}: the name '{name}' is taken, by '{other.name}' of {owner}: choose another")


def undeclared(kind: type[Model], known: Mapping[str, type[Model]] = REGISTRY) -> str:
    """Return what tables and the loop need and a class does not declare, with the remedy; empty if nothing.

    `known` are the models that its title must differ from.
    """
    lacking = [
        f"{field} = '...'" for field in ("title", "source") if not isinstance(getattr(kind, field, None), str)
    ]
    players = getattr(kind, "players", None)
    is_mapping = isinstance(players, Mapping) and (bool(players) or kind.elsewhere)
    if not is_mapping or not all(isinstance(networks, tuple | list) for networks in (players or {}).values()):
        lacking.append("players = {'a player': ('the attribute of a network', ...)}")
    if lacking:
        return f"{kind.__name__} declares too little, write in it: {', '.join(lacking)}"

    same = next((other for other in known.values() if other is not kind and other.title == kind.title), None)
    if same is not None:
        return f"{kind.__name__} has the title of '{same.name}', '{kind.title}': give it another, for tables"
    return ""
