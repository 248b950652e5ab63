"""Models from outside the project: the user's files, objects trained elsewhere, stored samples.

What a file defines becomes an entry of models.REGISTRY, so that suites, tables and the gate take it as any
other model:

    a class of models.base.Model with a `name`                      is trained and evaluated
    another class, or object, with a `name` and sample or encode    is evaluated alone, see evaluation/own.py
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from alibench.benchmarks.config import blame, classes, definitions
from alibench.benchmarks.config.blame import ENDS, MODULE, PLACES
from alibench.benchmarks.data import samples
from alibench.benchmarks.data.samples import StoredSamples, shown
from alibench.evaluation import files, main_script
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.features import extractors
from alibench.evaluation.objects import ExternalModel
from alibench.models import REGISTRY
from alibench.models.base import Model

NEEDED = (
    "a model of your own needs --plugin FILE (in Python, plugins=[FILE]), stored samples --samples NAME=PATH"
)
WANTED = (
    "it needs a class of models.base.Model with name, title, source and players, or a class or object with "
    "a name and sample(n) or encode(x)"
)


@dataclass(frozen=True)
class Plugin:
    """What the user named: a file, or stored samples with the name of the model that made them."""

    path: Path
    name: str = ""


LOADED: dict[Plugin, tuple[type[Model], ...]] = {}


def load(path: str | Path, complete: bool = True) -> tuple[type[Model], ...]:
    """Import a Python file, from anywhere, once, and register the models that it defines, which are returned.

    Other files in its folder can be imported from it. Raises BadInput, naming file and line, for a file that
    cannot be used; if not `complete`, its models may lack what `definitions.undeclared` names.
    """
    file = Path(path).expanduser().resolve()
    plugin = Plugin(file)
    if plugin not in LOADED:
        text = _read(file)
        before = set(main_script.REGISTERED)
        module = _imported(file, text)
        try:
            # Its extractors are not a script's, which workers could not see: they load this file, too.
            registered = main_script.REGISTERED.keys() - before
            for name in registered:
                del main_script.REGISTERED[name]

            # Its models, all or none.
            models = definitions.defined(module)
            if not models and not registered:
                raise BadInput(f"{shown(file)} defines no model: {WANTED}")
            _register(plugin, models, complete)
        except BaseException:
            del sys.modules[module.__name__]
            raise
    return LOADED[plugin]


def _imported(file: Path, text: bytes) -> ModuleType:
    """Execute a file as a module of a name that no other has. Raises BadInput for whatever it raises."""
    # files of one name in several folders are several modules
    names = (MODULE + file.stem + (f"_{i}" if i > 1 else "") for i in count(1))
    module = ModuleType(next(name for name in names if name not in sys.modules))
    module.__file__ = str(file)

    # its folder comes last, so that nothing in it hides what others import
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[module.__name__] = module
    try:
        # not by an importer, which would write bytecode next to the file
        exec(compile(text, str(file), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, ENDS):
            raise
        # a syntax error of another file has the line that imports that file
        if isinstance(error, SyntaxError) and error.filename == str(file):
            raise BadInput(f"{shown(file)}, line {error.lineno}: {error.msg}") from None
        raise BadInput(blame.in_plugin(error) or f"{shown(file)}: {blame.one_line(error)}") from None
    return module


def _read(file: Path) -> bytes:
    try:
        return files.read(file)
    except OSError as error:
        raise BadInput(
            f"{shown(file)} cannot be read ({error.strerror}): name a Python file with models"
        ) from None


def _register(plugin: Plugin, models: Mapping[type[Model], str], complete: bool) -> None:
    """Add models, each with its place, to the registry, all or none. Raises BadInput."""
    definitions.check(models, complete)
    REGISTRY.update({kind.name: kind for kind in models})
    PLACES.update(models)
    LOADED[plugin] = tuple(models)


def again(plugins: Iterable[Plugin]) -> None:
    """Load in another process what `LOADED` holds in this one. Raises BadInput as `load` does."""
    for plugin in plugins:
        if plugin.name:
            load_samples(plugin.name, plugin.path)
        else:
            load(plugin.path)


@contextmanager
def meanwhile() -> Iterator[None]:
    """Forget at the end what was loaded since the beginning: one command leaves another nothing."""
    registries: tuple[dict[Any, Any], ...] = (LOADED, PLACES, REGISTRY, classes.ADOPTED, extractors.MAKERS)
    before, path, modules = [dict(registry) for registry in registries], list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        # Modules: another command may load other files of the same names.
        neighbours = {name for name, _ in _neighbours()}
        for name in sys.modules.keys() - modules:
            if name.startswith(MODULE) or name in neighbours:
                del sys.modules[name]
        sys.path[:] = path

        # Registries.
        for registry, entries in zip(registries, before, strict=True):
            registry.clear()
            registry.update(entries)


def names(elsewhere: bool) -> list[str]:
    """Return the names of the loaded models in order: those that are trained, or were trained `elsewhere`."""
    return [kind.name for kinds in LOADED.values() for kind in kinds if kind.elsewhere == elsewhere]


def check_model(name: str, known: Iterable[str], what: str) -> None:
    """Raise BadInput for an unknown model, as `check_name` does, with the way to bring one."""
    try:
        check_name(name, known, what)
    except BadInput as problem:
        raise BadInput(f"{problem}; {NEEDED}") from None


# -------------------- what numbers depend on


def hashes() -> dict[str, str]:
    """Return the sha256 of each plug-in's file, by its path."""
    return {str(plugin.path): files.sha256(plugin.path) for plugin in LOADED if not plugin.name}


def contents() -> dict[str, str]:
    """Return the sha256 of all else that numbers depend on: what plug-ins import, classes, stored samples."""
    digests = {str(file): files.sha256(file) for _, file in _neighbours()}
    digests |= {f"class of {kind.name}": digest for kind, digest in classes.ADOPTED.items()}
    for plugin in LOADED:
        if plugin.name:
            digest = hashlib.sha256()
            for name, file in samples.sample_files(plugin.path).items():
                digest.update(os.fsencode(name) + bytes.fromhex(files.sha256(file, size=None)))
            digests[f"samples of {plugin.name}"] = digest.hexdigest()
    return dict(sorted(digests.items()))


def _neighbours() -> list[tuple[str, Path]]:
    """Return the modules that were imported from plug-ins' folders, each with its file."""
    folders = {f"{plugin.path.parent}{os.sep}" for plugin in LOADED if not plugin.name}
    if not folders:
        return []
    modules = []
    for name, module in list(sys.modules.items()):
        file, top = getattr(module, "__file__", None) or "", name.partition(".")[0]
        starts = tuple(f"{folder}{top}{end}" for folder in folders for end in (".py", os.sep))
        if file.startswith(starts) and top != "alibench":
            modules.append((name, Path(file)))
    return modules


# -------------------- stored samples


def load_samples(name: str, path: str | Path) -> tuple[type[Model], ...]:
    """Register a folder of images, or an .npz or .npy, as a model's samples. Raises BadInput without any."""
    plugin = Plugin(Path(path).expanduser().resolve(), name)
    if plugin not in LOADED:
        samples.sample_files(plugin.path)
        source = definitions.SOURCE
        kind = definitions.elsewhere(
            __name__, StoredSamples, lambda shape: StoredSamples(plugin.path, shape), name, name, source
        )
        _register(plugin, {kind: f"--samples {name}={shown(plugin.path)}"}, complete=True)
    return LOADED[plugin]


def is_folder(kind: type[Model]) -> bool:
    """Return whether a model is stored samples."""
    return issubclass(kind, ExternalModel) and kind.thing is StoredSamples


def samples_of(kind: type[Model]) -> Path:
    """Return where the samples of a model are stored."""
    return next(plugin.path for plugin in LOADED if plugin.name == kind.name)


def notes(kind: type[Model], dataset: str) -> list[str]:
    """Return what readers of a model's numbers must know of its stored samples; empty for other models."""
    return samples.notes(samples_of(kind), dataset) if is_folder(kind) else []
