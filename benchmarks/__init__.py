"""How models are compared: suites, data on the device, the one training loop, the runner, the command line."""

import importlib.util
import sys
from pathlib import Path


def _beside(room: str) -> None:
    """Import the room that lies beside this one. By its name alone a folder of the user's could be found: models/, results/.

    Raises ImportError if something else of that name is imported already.
    """
    path = Path(__file__).resolve().parent.parent / room / "__init__.py"
    if room not in sys.modules:
        spec = importlib.util.spec_from_file_location(room, path, submodule_search_locations=[str(path.parent)])
        assert spec is not None
        assert spec.loader is not None
        sys.modules[room] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[room])
    if (found := sys.modules[room].__file__) is None or Path(found).resolve() != path:
        where = found or next(iter(sys.modules[room].__path__), room)
        raise ImportError(
            f"alibench needs its own '{room}', and {where} stands in its place: import benchmarks first, or rename it"
        )


for room in ("models", "evaluation", "results"):
    _beside(room)

from benchmarks.trained import load_run  # noqa: E402

__all__ = ["load_run"]
