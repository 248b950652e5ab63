"""Shows how far the runs of a command are, wherever they are done."""

import time
from collections.abc import Mapping

from rich import progress
from rich.console import Console

from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK, Outcome

BARS = 20  # of single runs; a cluster does more at a time than a terminal has lines


class Display:
    """Shows bars with the time left on a terminal; elsewhere a line when a job ends."""

    def __init__(self, console: Console, work: Mapping[str, Job]) -> None:
        self.console, self.work, self.started, self.done = console, work, time.monotonic(), 0
        self.progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.all = self.progress.add_task("all runs", total=len(work))
        self.bars: dict[str, progress.TaskID] = {}

    def reach(self, run_id: str, steps: int) -> None:
        """Set a run's bar, which appears with its first steps."""
        if run_id not in self.bars:
            if self.progress.disable or len(self.bars) == BARS:
                return
            self.bars[run_id] = self.progress.add_task(f"  {run_id}", total=self.work[run_id].steps)
        self.progress.update(self.bars[run_id], completed=steps)

    def finish(self, run_id: str, outcome: Outcome, tried_again: bool) -> None:
        """Show that a job ended."""
        if run_id in self.bars:
            self.progress.remove_task(self.bars.pop(run_id))
        if tried_again:
            self.say(f"{run_id}: {outcome}; it is tried again")
            return
        self.done += 1
        self.progress.advance(self.all)

        # On a terminal the bars show what went well.
        if not self.console.is_terminal or outcome != OK:
            elapsed = time.monotonic() - self.started
            left = elapsed / self.done * (len(self.work) - self.done)
            text = "done" if outcome == OK else str(outcome)
            clock = f"{elapsed:5.0f} s, about {left:.0f} s left"
            self.say(f"[{self.done}/{len(self.work)}] {run_id}: {text} ({clock})")

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.console.print(line, markup=False, highlight=False)
