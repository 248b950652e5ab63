"""How a command that writes runs does its work: folder, engine, jobs, tables, exit code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from alibench.benchmarks.commands.options import Effort
from alibench.benchmarks.commands.publishing import publish
from alibench.benchmarks.running import forecast, outputs, runner, tracking
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.engine import Engine
from alibench.benchmarks.running.jobs import Job, Workplace
from alibench.benchmarks.running.outcomes import OK, Outcome, as_text
from alibench.benchmarks.running.outputs import Destination, Output
from alibench.benchmarks.running.slurm import Array
from alibench.evaluation import files

Outcomes = Mapping[str, Outcome]  # by run


@dataclass(frozen=True)
class Task:
    """What a command is to do."""

    name: str  # of a fresh folder
    plan: Mapping[str, Any]
    jobs: Callable[[Workplace], list[Job]]
    bytes: int  # that it writes, roughly
    kept: Mapping[str, str] = field(default_factory=dict)  # file -> text, to lie next to the runs
    begins: str = ""  # a line to print before the first run


def carry_out(
    task: Task,
    engine: Engine | Array,
    destination: Destination,
    effort: Effort,
    console: Console,
    finish: Callable[[Output, Outcomes], Answer] | None = None,
) -> Answer:
    """Do the jobs of a command, then `finish`, by default tables and report; or only show what would be done.

    Raises BadInput before anything is written.
    """
    path = outputs.destined(destination, task.name, task.plan, task.bytes)
    place = Workplace(path, str(engine.device), every=effort.checkpoint_every, track=effort.trackers)
    foreseen = task.jobs(place)

    # All that can be refused or shown without the folder.
    if isinstance(engine, Array):
        if destination.dry_run:
            return engine.show(foreseen, console)
    else:
        engine.check(foreseen, task.plan)
        if destination.dry_run:
            return forecast.answer(foreseen, engine, task.bytes, console)

    # The work.
    with outputs.opened(destination, path, task.plan) as out:
        for file, text in task.kept.items():
            files.replace(out.path / file, text)
        if task.begins:
            console.print(task.begins, highlight=False)
        tracking.remark(out.path, effort.trackers)

        jobs = task.jobs(replace(place, out=out.path, command=out.command))
        if isinstance(engine, Array):
            return engine.write(jobs, out, console)
        outcomes = runner.run(jobs, engine, console, effort.retries)
        if finish:
            return finish(out, outcomes)
        published = publish(out.path, console, destination.all_tables)
        suites = {job.suite.name: job.suite for job in jobs}
        tracking.publish(out.path, effort.trackers, list(suites.values()), published["tables"])
        return ended(out, outcomes, console, published)


def ended(out: Output, outcomes: Outcomes, console: Console, facts: Mapping[str, Any]) -> Answer:
    """Print what went wrong; return it with other facts: exit code 1 if a run failed, 3 if one diverged."""
    wrong = {run_id: outcome for run_id, outcome in outcomes.items() if outcome != OK}
    for run_id, outcome in wrong.items():
        console.print(f"{run_id} {outcome}", markup=False, highlight=False)

    # What diverged would diverge again: only failures are worth another try.
    some_failed = bool(failed(outcomes))
    if some_failed:
        console.print(f"Try again what failed: {out.resume}", markup=False, soft_wrap=True, highlight=False)
    return Answer(
        1 if some_failed else 3 if wrong else 0, {"out": out.path, "runs": as_text(outcomes), **facts}
    )


def failed(outcomes: Outcomes) -> set[str]:
    """Return the runs that failed."""
    return {run_id for run_id, outcome in outcomes.items() if outcome.failed}
