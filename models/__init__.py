"""The models that the suite compares: each is one file in this folder, found by its class's `name`."""

import importlib
import inspect
import pkgutil

if __name__ == "models":
    raise ImportError("import it as alibench.models")

from alibench.models.base import Model

REGISTRY: dict[str, type[Model]] = {
    member.name: member
    for module in pkgutil.iter_modules(__path__)
    for _, member in inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass)
    if issubclass(member, Model) and "name" in vars(member)
}
