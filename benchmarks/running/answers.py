"""What a command answers: its exit code, and the facts that `--json` prints."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The exit code of a command, and the facts that `--json` prints."""

    code: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """The facts and the exit code as JSON; NaN and infinities are null."""
        return json.dumps(strict({**self.facts, "exit_code": self.code}), indent=1, allow_nan=False)


def strict(value: Any) -> Any:
    """Return facts as JSON knows them: null for NaN and infinities, text for paths."""
    if isinstance(value, Mapping):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextmanager
def stdout_for_facts() -> Iterator[None]:
    """Send to stderr what is printed meanwhile, also by a library or a worker process."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
