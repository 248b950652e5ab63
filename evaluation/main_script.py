"""The script that Python was started with: the processes that it starts import it again, or cannot.

Python's own way to start a process (spawn) runs the script there under another name than `__main__`. Code
typed in a notebook, or given to `python -c`, is not a file and is not run there.
"""

import ast
import inspect
import sys
from pathlib import Path

GUARD = 'if __name__ == "__main__":'
REGISTERED: dict[str, int] = {}  # extractors, and the line at which the script was then; 0: none


def file() -> Path | None:
    """Return the script's file, or nothing if processes have none to import."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return Path(path) if path and Path(path).is_file() else None


def line() -> int:
    """Return the line at which the script is now; 0 if the script is not among the callers."""
    # outwards through the callers, to the script's own level
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is vars(sys.modules["__main__"]) and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return 0


def is_conditional(line: int) -> bool:
    """Return whether a line of the script stands under an `if`, as GUARD is one."""
    path = file()
    if path is None:
        return False
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # The file is not Python any more: nothing is known.
        return True
    conditions = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    return any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in conditions)


def problem(extractor: str) -> str:
    """Say why processes that are started now could not do runs with an extractor; nothing if they can."""
    path, here, registered_at = file(), line(), REGISTERED.get(extractor)

    # as `python - < script` names it; with a specification it is imported by name
    main = sys.modules["__main__"]
    named = getattr(main, "__file__", None)
    if path is None and named and getattr(main, "__spec__", None) is None:
        return (
            f"this script, {named}, is not a file that the processes that do runs could import: save it "
            "in one"
        )
    if path is None and registered_at is not None:
        return (
            f"extractor '{extractor}' was registered in a notebook or by python -c, where the processes that "
            "do runs do not see it: put it into a file and name that by --plugin FILE, or measure here by "
            "alibench.evaluate"
        )
    if path is not None and here and not is_conditional(here):
        return (
            f"{path}, line {here}: the processes that do runs import this script, and would run it again: "
            f"put this line under '{GUARD}', and what they need, as extractors.register, before it"
        )
    if registered_at and is_conditional(registered_at):
        return (
            f"{path}, line {registered_at}: extractor '{extractor}' is registered under an 'if' that the "
            f"processes that do runs do not enter: register it before '{GUARD}', or in a file that --plugin "
            "names"
        )
    return ""
