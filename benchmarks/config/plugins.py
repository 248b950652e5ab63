"""Models from outside the project: files with models of the user's, objects trained elsewhere, stored
samples.

What a file defines becomes an entry of models.REGISTRY, so that suites, tables and the gate take it as any
other model:

    a class of models.base.Model with a `name`                      is trained and evaluated
    any other class, or object, with a `name` and sample or encode  is evaluated alone (evaluation/own.py says how)

A mistake in such a file is the user's: messages name file, line and function, and show no traceback of ours.
"""

import ast
import functools
import hashlib
import inspect
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from alibench.benchmarks.config.streams import Unwritable
from alibench.benchmarks.data import samples
from alibench.benchmarks.data.samples import StoredSamples, shown
from alibench.evaluation import files, script
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.features import extractors
from alibench.evaluation.files import NAME
from alibench.evaluation.own import ABLE, Elsewhere
from alibench.models import REGISTRY
from alibench.models.base import Model

NAMING = "folders are called by it, so name it by a letter or digit and up to 39 letters, digits, spaces or '_.+()-'"
# rows that stand beside the models in tables; a model of that name would be mixed up with them
REFERENCES = ("mean", "class mean", "PCA", "raw pixels", "untrained encoder", "noise", "held-out data")
MODULE = "alibench_plugin_"  # before the names of modules
SOURCE = "trained elsewhere"  # of what says no other
NEEDED = "a model of your own needs --plugin FILE (in Python, plugins=[FILE])"
WANTED = (
    "it needs a class of models.base.Model with name, title, source and players, or a class or object with "
    "a name and "
    "sample(n) or encode(x)"
)
LONGEST = 300  # characters of an exception's message
ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "evaluation", "results", "benchmarks")  # of alibench; once imported by these names alone


class Blamed(BadInput):
    """A plug-in cannot be used for a mistake in it; the message says where it is."""


@dataclass(frozen=True)
class Source:
    """What the user named: a file, or stored samples with the name of the model that made them."""

    path: Path
    name: str = ""


LOADED: dict[Source, tuple[type[Model], ...]] = {}
PLACES: dict[type[Model], str] = {}  # where each of these models is defined, for messages


def load(path: str | Path, complete: bool = True) -> tuple[type[Model], ...]:
    """Import a Python file, from anywhere, and register what it defines; once, however often it is asked for.

    Files beside it can be imported from it. Raises BadInput, naming file and line, for what is no such file;
    where the models need not be `complete`, not for what `undeclared` names.
    """
    file = Path(path).expanduser().resolve()
    source = Source(file)
    if source not in LOADED:
        text = _read(file)
        module = ModuleType(_free(MODULE + file.stem))
        module.__file__ = str(file)
        sys.modules[module.__name__] = module
        before = set(script.REGISTERED)
        if str(file.parent) not in sys.path:
            sys.path.append(
                str(file.parent)
            )  # last, so that nothing beside the file hides what others import
        try:
            try:
                exec(compile(text, str(file), "exec", dont_inherit=True), vars(module))
            except (KeyboardInterrupt, Unwritable):
                raise
            except BaseException as error:
                raise BadInput(
                    _syntax(error, file) or blame(error) or f"{shown(file)}: {said(error)}"
                ) from None
            extractors_of_it = script.REGISTERED.keys() - before
            for name in extractors_of_it:  # workers load the file, too
                del script.REGISTERED[name]
            _register(source, _defined(module, text, needed=not extractors_of_it), complete)
        except BaseException:
            del sys.modules[module.__name__]
            raise
    return LOADED[source]


def load_samples(name: str, path: str | Path) -> tuple[type[Model], ...]:
    """Register a folder of images, or an .npz or .npy, as a model's samples. Raises BadInput if there are
    none.
    """
    source = Source(Path(path).expanduser().resolve(), name)
    if source not in LOADED:
        place = f"--samples {name}={shown(source.path)}"
        samples.sample_files(source.path)
        kind = _elsewhere(
            __name__, StoredSamples, lambda shape: StoredSamples(source.path, shape), name, name, SOURCE
        )
        _register(source, {kind: place}, complete=True)
    return LOADED[source]


def again(given: Iterable[Source]) -> None:
    """Load in another process what `LOADED` holds in this one. Raises BadInput as `load` does."""
    for source in given:
        if source.name:
            load_samples(source.name, source.path)
        else:
            load(source.path)


@contextmanager
def meanwhile() -> Iterator[None]:
    """Forget afterwards what was loaded meanwhile, files beside plug-ins included: one command leaves another
    nothing.
    """
    loaded, places, registry, makers = dict(LOADED), dict(PLACES), dict(REGISTRY), dict(extractors._MADE)
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        beside = {name for name, _ in _beside()}
        for name in sys.modules.keys() - modules:
            if name.startswith(MODULE) or name in beside:
                del sys.modules[name]
        for now, before in (
            (LOADED, loaded),
            (PLACES, places),
            (REGISTRY, registry),
            (extractors._MADE, makers),
        ):
            now.clear()
            now.update(before)  # type: ignore[arg-type]
        sys.path[:] = path


def names(elsewhere: bool) -> list[str]:
    """Return the names of the models that were loaded to be trained, in order, or of those that were trained
    elsewhere.
    """
    return [kind.name for kinds in LOADED.values() for kind in kinds if kind.elsewhere == elsewhere]


def hashes() -> dict[str, str]:
    """Return the hashes of the plug-ins' own files."""
    return {str(s.path): hashlib.sha256(s.path.read_bytes()).hexdigest() for s in LOADED if not s.name}


def contents() -> dict[str, str]:
    """Return the hashes of what numbers depend on besides the files that were named: others beside them,
    samples.
    """
    found = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for _, file in _beside()}
    for source in LOADED:
        if source.name:
            digest = hashlib.sha256()
            for name, file in samples.sample_files(source.path).items():
                digest.update(os.fsencode(name) + hashlib.sha256(Path(file).read_bytes()).digest())
            found[f"samples of {source.name}"] = digest.hexdigest()
    return dict(sorted(found.items()))


def _beside() -> list[tuple[str, Path]]:
    """Return the modules that lie beside plug-ins and were imported, each with its file."""
    found = []
    for folder in {f"{source.path.parent}{os.sep}" for source in LOADED if not source.name}:
        for name, module in list(sys.modules.items()):
            file, top = getattr(module, "__file__", None) or "", name.partition(".")[0]
            if file.startswith((f"{folder}{top}.py", f"{folder}{top}{os.sep}")) and top != "alibench":
                found.append((name, Path(file)))
    return found


# -------------------- what is said of mistakes


def said(error: BaseException) -> str:
    """Return an exception in a line."""
    message = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, ModuleNotFoundError) and error.name in ROOMS:
        message += f": import it as alibench.{error.name}"
    if isinstance(error, BadInput):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def blame(error: BaseException) -> str:
    """Return an exception with the innermost line of a plug-in that it came through; nothing if it came
    through none.
    """
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(MODULE)
    ]
    if not frames:
        return ""
    code, line = frames[-1]
    function = "" if code.co_name == "<module>" else f", in {code.co_name}"
    return f"{shown(Path(code.co_filename))}, line {line}{function}: {said(error)}"


def source_line(error: BaseException) -> str:
    """Return the innermost line of code that an error came through, as text."""
    return traceback.extract_tb(error.__traceback__)[-1].line or ""


def told(error: BaseException, kind: type[Model]) -> str:
    """Return an exception with its line in a plug-in, or with where the model is defined that it came of."""
    if isinstance(error, Blamed):
        return str(error)
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    file = Path(frame.f_code.co_filename).resolve()
    ours = not isinstance(error, BadInput) and any(file.is_relative_to(ROOT / room) for room in ROOMS)
    within = f" (in {frame.f_code.co_name}, {file.relative_to(ROOT)}, line {line})" if ours else ""
    return blame(error) or f"{PLACES[kind]}: {said(error)}{within}"


def where(kind: type[Model], *methods: str) -> str:
    """Return where a model defines the first of some methods that it does define, or where it is defined
    itself.
    """
    made = kind.thing if issubclass(kind, Elsewhere) else kind
    given = {str(source.path) for source in LOADED}
    for method in methods:
        code = getattr(getattr(made, method, None), "__code__", None)
        if code and code.co_filename in given:
            return f"{shown(Path(code.co_filename))}, line {code.co_firstlineno}, in {code.co_name}"
    return PLACES[kind]


def check_model(name: str, known: Iterable[str], what: str) -> None:
    """Raise BadInput for a model that is not there, as `check_name` does, with the way to bring one."""
    try:
        check_name(name, known, what)
    except BadInput as problem:
        raise BadInput(f"{problem}; {NEEDED}") from None


def _syntax(error: BaseException, file: Path) -> str:
    """Say what is wrong with a file that could not be compiled; nothing if that is not the error."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{shown(file)}, line {error.lineno}: {error.msg}"
    return ""


# -------------------- what a file defines


def _read(file: Path) -> bytes:
    try:
        return files.read(file)
    except FileNotFoundError:
        raise BadInput(f"there is no file {shown(file)}: name a Python file with models") from None
    except OSError as error:
        raise BadInput(
            f"{shown(file)} cannot be read ({error.strerror}): name a Python file with models"
        ) from None


def _free(name: str) -> str:
    """Return a name that no module has."""
    return next(free for i in count(1) if (free := name if i == 1 else f"{name}_{i}") not in sys.modules)


def _defined(module: ModuleType, text: bytes, needed: bool) -> dict[type[Model], str]:
    """Return the models of a module, each with its place.

    Raises BadInput if there is none and one is `needed`, or for one without a name.
    """
    file = Path(str(module.__file__))
    lines = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            lines[node.name] = node.lineno
        elif isinstance(node, ast.Assign):
            lines |= {target.id: node.lineno for target in node.targets if isinstance(target, ast.Name)}

    def place(name: str) -> str:
        return shown(file) + (f", line {lines[name]}" if name in lines else "")

    things: dict[int, tuple[str, Any]] = {}
    for name, thing in vars(module).items():
        if not name.startswith("__"):
            things.setdefault(id(thing), (name, thing))
    classes = {
        thing: place(thing.__name__)
        for _, thing in things.values()
        if isinstance(thing, type) and thing.__module__ == module.__name__
    }
    trained = {kind: at for kind, at in classes.items() if issubclass(kind, Model)}
    named = {kind: at for kind, at in trained.items() if "name" in vars(kind)}
    for kind, at in trained.items():
        if kind not in named and not any(issubclass(other, kind) for other in named):
            raise BadInput(
                f"{at}: {kind.__name__} has no name: write name = '...' in it, which suites call it by"
            )
    objects = [
        (thing, place(name))
        for name, thing in things.values()
        if not isinstance(thing, type) and _takes_part(thing) and _is_own(thing, module)
    ]
    made = {type(thing) for thing, _ in objects}
    others = [
        (kind, at)
        for kind, at in classes.items()
        if kind not in trained and kind not in made and _takes_part(kind)
    ]
    found: dict[type[Model], str] = {**named}
    for thing, at in [*others, *objects]:
        found[_wrapped(module, thing)] = at
    if not found and needed:
        raise BadInput(f"{shown(file)} defines no model: {WANTED}")
    return found


def _takes_part(thing: Any) -> bool:
    """Return whether a class or an object can be evaluated: it has a name, and samples or encodes."""
    able = any(callable(getattr(thing, method, None)) for method in ("sample", "encode"))
    return able and isinstance(getattr(thing, "name", None), str)


def _is_own(thing: Any, module: ModuleType) -> bool:
    """Return whether an object is one of the module's: of a class of its own, or named by it."""
    return type(thing).__module__ == module.__name__ or "name" in getattr(thing, "__dict__", {})


def _wrapped(module: ModuleType, thing: Any) -> type[Elsewhere]:
    """Return a class or an object that was trained elsewhere as a model."""
    title, source = getattr(thing, "title", thing.name), getattr(thing, "source", SOURCE)
    # a class is made once in a process, when it is needed: it may read or fit something large
    make = functools.cache(lambda: thing()) if isinstance(thing, type) else lambda: thing
    return _elsewhere(module.__name__, thing, lambda shape: make(), thing.name, title, source)


def _elsewhere(
    module: str, thing: Any, make: Callable[[tuple[int, ...]], Any], name: str, title: str, source: str
) -> type[Elsewhere]:
    """Return the model that `make` makes, for the shape of the data, out of a class or an object."""
    able = {method for method in ABLE if callable(getattr(thing, method, None))}
    fields: dict[str, Any] = {
        **{"name": name, "title": title, "source": source},
        **{"generative": "sample" in able, "inverts": "decode" in able},
        "inference": "learnt with it" if "encode" in able else "none",
        **{"thing": thing, "make": staticmethod(make), "__module__": module},
    }
    return type(name, (Elsewhere,), fields)


def _register(source: Source, found: Mapping[type[Model], str], complete: bool) -> None:
    """Add models to the registry, all or none. Raises BadInput."""
    new: dict[str, type[Model]] = {}
    for kind, at in found.items():
        _check_name(kind, at, {**REGISTRY, **new}, {**PLACES, **found})
        if complete and (lacking := undeclared(kind, {**REGISTRY, **new})):
            raise BadInput(f"{at}: {lacking}")
        new[kind.name] = kind
    REGISTRY.update(new)
    PLACES.update(found)
    LOADED[source] = tuple(new.values())


def _check_name(
    kind: type[Model], at: str, known: Mapping[str, type[Model]], places: Mapping[type[Model], str]
) -> None:
    name: object = kind.name
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput(f"{at}: the name {name!r}: {NAMING}")
    if name in REFERENCES:
        raise BadInput(
            f"{at}: the name '{name}' is that of a row that stands beside the models: choose another"
        )
    # case-insensitive, as some disks are, which runs have their folders on
    other = next((other for taken, other in known.items() if taken.casefold() == name.casefold()), None)
    if other is not None:
        taken_by = places.get(other) or shown(Path(inspect.getfile(other)))
        raise BadInput(f"{at}: the name '{name}' is taken, by '{other.name}' of {taken_by}: choose another")


def undeclared(kind: type[Model], known: Mapping[str, type[Model]] = REGISTRY) -> str:
    """Say what tables and the loop need and a class does not declare; nothing if all is there. `known` are
    the others.
    """
    lacking = [
        f"{field} = '...'" for field in ("title", "source") if not isinstance(getattr(kind, field, None), str)
    ]
    players = getattr(kind, "players", None)
    told = isinstance(players, Mapping) and (bool(players) or kind.elsewhere)
    if not told or not all(isinstance(own, tuple | list) for own in (players or {}).values()):
        lacking.append("players = {'a player': ('the attribute of a network', ...)}")
    if lacking:
        return f"{kind.__name__} declares too little, write in it: {', '.join(lacking)}"
    same = next((other for other in known.values() if other is not kind and other.title == kind.title), None)
    if same is not None:
        return f"{kind.__name__} has the title of '{same.name}', '{kind.title}': give it its own, tables would have two of it"
    return ""


# -------------------- stored samples


def samples_in(command: str) -> list[str]:
    """Return the models that a command got stored samples of, by its --samples NAME=PATH."""
    named = []
    for word, after in pairwise([*shlex.split(command), ""]):
        option, joined, value = word.partition("=")
        if option == "--samples":
            named.append(value if joined else after)
    return [name.partition("=")[0] for name in named]


def is_folder(kind: type[Model]) -> bool:
    """Return whether a model is stored samples."""
    return issubclass(kind, Elsewhere) and kind.thing is StoredSamples


def samples_of(kind: type[Model]) -> Path:
    """Return where the samples of a model are stored."""
    return next(source.path for source in LOADED if source.name == kind.name)


def size(kind: type[Model]) -> int:
    """Return how many samples of a model are stored."""
    return samples.count(samples_of(kind))


def notes(kind: type[Model], shape: tuple[int, ...], dataset: str) -> list[str]:
    """Return what a reader of a model's numbers has to know of its stored samples; nothing of any other
    model.
    """
    return samples.notes(samples_of(kind), shape, dataset) if is_folder(kind) else []
