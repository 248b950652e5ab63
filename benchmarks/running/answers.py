"""What a command answers: its exit code, and the facts that `--json` prints."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass(frozen=True)
class Answer:
    """The exit code of a command, and the facts that `--json` prints."""

    code: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """The facts and the exit code as JSON."""
        return as_json({**self.facts, "exit_code": self.code})


def as_json(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON: null for NaN and infinities, text for paths."""

    def plain(value: Any) -> Any:
        return float(value) if isinstance(value, float) else str(value)  # NumPy's numbers

    # json's text is ASCII, which every terminal and log can hold.
    return json.dumps(json.loads(msgspec.json.encode(facts, enc_hook=plain)), indent=1)


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
