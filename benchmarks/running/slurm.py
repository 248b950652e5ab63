"""`--on slurm`: the runs of a command as a SLURM array, an element each, in a script for sbatch.

`DIR/slurm/array-1.json` lists the elements, `array-1.sh` is for sbatch. An element resumes from its
checkpoint, like any run. SLURM begins it again when a node fails; a signal shortly before its time is up lets
it end with a checkpoint, and it asks to be queued again. Element $SLURM_ARRAY_TASK_ID is done by

    python -m alibench.benchmarks.running.slurm DIR/slurm/array-1.json
"""

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from rich.console import Console

from alibench.benchmarks.config import devices, loading, plugins
from alibench.benchmarks.data import cache
from alibench.benchmarks.running import outputs, worker
from alibench.benchmarks.running.answers import Answer
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import STOPPED
from alibench.benchmarks.running.outputs import Output
from alibench.benchmarks.running.trackers import TrackerName
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation import files, sealed
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say
from alibench.results import differences

FOLDER = "slurm"  # in a command's folder
VERSION = 2  # of array-N.json
LONGEST = 1000  # elements of an array: SLURM's own default allows 1,001
TOGETHER = 256  # elements that run at a time, if --slurm array_parallelism=... says nothing
MINUTES = 24 * 60  # of an element, if --slurm time=... says nothing
WARNED = 90  # seconds before its time is up
SIGNAL = signal.SIGUSR2
OPTION = re.compile("[a-z][a-z-]*")  # of sbatch
FIXED = ("array", "output", "open-mode", "signal", "requeue")  # which an array depends on


class ArrayFile(msgspec.Struct):
    """The content of array-N.json: what the elements have in common, and the job of each."""

    command: list[str]
    device: str
    every: Annotated[float, Meta(ge=0)]
    track: list[TrackerName]
    plugins: list[tuple[str, str]]  # path and name of each source
    elements: list[tuple[str, files.Name, files.Name, files.Seed]]  # kind, suite, model, seed


# -------------------- in the command's process


class Array:
    """Writes the scripts for a command's runs on a `device`, and sends them with `submit`.

    `options` are "KEY=VALUE": an option of sbatch, "setup" with a line for the shell (several times, if need
    be), or "array_parallelism". `size` is what a forecast counts with. Raises BadInput.
    """

    size = 1

    def __init__(self, device: str | None, submit: bool, options: Iterable[str]) -> None:
        if device is None:
            raise BadInput("--on slurm: say --device cuda or cpu: the nodes cannot be seen from here")
        self.device, self.submit = torch.device(device), submit
        if self.device.type not in ("cpu", "cuda") or self.device.index is not None:
            raise BadInput(f"--device {device}: SLURM gives each element a device by itself: say cpu or cuda")
        if submit and not shutil.which("sbatch"):
            raise BadInput("--submit: there is no sbatch here: leave it out, and send the script elsewhere")

        # sbatch knows its options best, and refuses unknown ones by name.
        self.options: dict[str, str] = {}
        self.setup: list[str] = []
        for assignment in options:
            key, equals, value = assignment.partition("=")
            name = key.replace("_", "-")
            if not (equals and OPTION.fullmatch(name) and files.is_line(value)):
                raise BadInput(f"--slurm takes KEY=VALUE, an option of sbatch, not '{assignment}'")
            if name in FIXED:
                raise BadInput(f"--slurm {key}: an array of runs depends on it, so it is not yours to set")
            if name == "setup":
                self.setup.append(value)
            else:
                self.options[name] = value
        together = self.options.pop("array-parallelism", str(TOGETHER))
        if not together.isdecimal() or int(together) < 1:
            raise BadInput(f"--slurm array_parallelism={together}: a number of elements, 1 or more")
        self.together: int = int(together)

    def show(self, work: Sequence[Job], console: Console) -> Answer:
        """Print the scripts."""
        scripts = [self._script(elements, path) for path, elements in _arrays(work)]
        for script in scripts:
            console.print(script, markup=False, highlight=False, soft_wrap=True)
        return Answer(facts={"dry_run": True, "scripts": scripts})

    def write(self, work: Sequence[Job], out: Output, console: Console) -> Answer:
        """Write the scripts and their lists of elements, and submit them where that was asked for."""
        submitted, scripts = list[str](), list[Path]()
        files.subfolder(out.path, FOLDER)
        for path, elements in _arrays(work):
            first, script = elements[0], path.with_suffix(".sh")
            text = self._script(elements, path)
            body = {
                "command": first.command,
                "device": str(self.device),
                "every": first.every,
                "track": first.track,
                "plugins": [(str(source.path), source.name) for source in plugins.LOADED],
                "elements": [(job.kind, job.suite.name, job.name, job.seed) for job in elements],
            }
            # The list first: a script without one could be sent.
            sealed.write_json(path, "array", VERSION, body)
            files.replace(script, text)
            scripts.append(script)

            line = f"sbatch {shlex.quote(str(script))}  # {len(elements)} runs, an element each"
            if self.submit:
                submitted.append(_submit(script))
                line = f"{script}: {len(elements)} runs, an element each: sent as job {submitted[-1]}"
            console.print(line, soft_wrap=True, highlight=False)

        if not scripts:
            console.print("all runs are finished", highlight=False)
        resume = Output(out.path, tuple(_without_array(out.command))).resume
        line = f"{resume}  # afterwards: what is left, speed, and the tables"
        console.print(line, soft_wrap=True, highlight=False)
        return Answer(facts={"out": out.path, "scripts": scripts, "submitted": submitted})

    def _script(self, elements: Sequence[Job], path: Path) -> str:
        """Return a script for sbatch; `path` is the list of its elements."""
        resources = [job.suite.resources for job in elements]
        last, folder = len(elements) - 1, str(path.parent.absolute()).replace("%", "%%")
        asked = {
            "job-name": elements[0].suite.name,
            "time": MINUTES,
            "cpus-per-task": math.ceil(max(each.cpus for each in resources)),
            "mem": f"{math.ceil(max(each.memory for each in resources))}GB",
            **({"gpus-per-node": 1} if self.device.type == "cuda" else {}),
            **self.options,
            "array": f"0-{last}%{min(last + 1, self.together)}",
            "output": f"{folder}/%A_%a.out",  # sbatch fills in after one %
            "open-mode": "append",
            "signal": f"B:{SIGNAL.name.removeprefix('SIG')}@{WARNED}",
        }
        home = {name: os.environ[name] for name in ("ALIBENCH_DATA",) if name in os.environ}
        environment = {**worker.environment(self.device), **home}

        # The user's own lines come first: they may load the modules that all else needs. The shell gives its
        # place to Python, so that the signal reaches it; -P: a models/ of the user's hides none of ours.
        module = ["-m", "alibench.benchmarks.running.slurm", str(path.absolute())]
        lines = [
            "#!/bin/bash",
            *(
                f"#SBATCH --{key}={shlex.quote(str(value))}".removesuffix("=''")
                for key, value in asked.items()
            ),
            "#SBATCH --requeue",
            "",
            *self.setup,
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
            f"cd {shlex.quote(os.getcwd())}",
            shlex.join(["exec", sys.executable, "-P", *module]),
        ]
        return "\n".join(lines) + "\n"


def _arrays(work: Sequence[Job]) -> Iterator[tuple[Path, Sequence[Job]]]:
    """Yield the path and the jobs of each array, without finished runs and speed.

    Speed is timed with nothing else on the machine, which an array cannot promise.
    """
    folder = work[0].out / FOLDER
    left = [job for job in work if job.kind != "throughput" and not job.outcome()]

    # An earlier array may still wait for its turn: it keeps its number.
    numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob("array-*.json")]
    for number, start in enumerate(range(0, len(left), LONGEST), 1 + max(numbers, default=0)):
        yield folder / f"array-{number}.json", left[start : start + LONGEST]


def _without_array(command: Iterable[str]) -> Iterator[str]:
    """Yield a command without the options that make an array of it."""
    words = iter(command)
    for word in words:
        if word in ("--on", f"--{FOLDER}"):
            next(words, None)
        elif word != "--submit" and not word.startswith(("--on=", f"--{FOLDER}=")):
            yield word


def _submit(script: Path) -> str:
    """Return the number of the job that SLURM makes of a script. Raises BadInput if sbatch refuses it."""
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise BadInput(f"sbatch refused {script}: {reason}: change it by --slurm, or by hand")
    return done.stdout.strip().partition(";")[0]


# -------------------- in an element's process


def element(path: Path, index: int) -> int:
    """Do an element of an array; return 0, or 1 if it failed or ended on request.

    Raises BadInput, also where code, libraries or data are not those that the array was made with.
    """
    job = _job(path, index)
    request, taken = Request(), list[int]()

    def take(number: int, frame: Any) -> None:
        taken.append(number)
        request.take(number, frame)

    for number in (signal.SIGTERM, SIGNAL):
        signal.signal(number, take)
    outcome = job.outcome()
    if not outcome:
        done = worker.work([job], lambda run_id, steps: None, request, tuple(plugins.LOADED))
        outcome = done[job.run_id]
    print(f"{job.run_id}: {outcome}", flush=True)

    # Not after SIGTERM: then somebody wanted it to end.
    if outcome == STOPPED and SIGNAL in taken:
        name = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}"
        subprocess.run(["scontrol", "requeue", name], check=False)
    return int(outcome.failed or outcome == STOPPED)


def _job(path: Path, index: int) -> Job:
    """Return the job of an element. Raises BadInput."""
    out = path.parent.parent
    try:
        array, begun = sealed.read_json(path, "array", VERSION, ArrayFile), outputs.read_plan(out)
    except (files.Damaged, OSError) as problem:
        raise BadInput(f"{problem}: write the array again") from None
    plugins.again(plugins.Plugin(Path(place), name) for place, name in array["plugins"])

    suites = {name: loading.of_plan(table) for name, table in begun["suites"].items()}
    device = devices.device(array["device"])
    del begun["command"]
    here = outputs.plan(suites.values(), device, plugins=plugins.contents())
    if different := differences.differences(begun, here, "here"):
        raise BadInput(f"{out} was begun with something else: {different}")

    kind, suite, name, seed = array["elements"][index]
    common = {"every": array["every"], "track": tuple(array["track"])}
    return Job(kind, suites[suite], name, seed, out, str(device), tuple(array["command"]), **common)


def main() -> int:
    """Do the element that SLURM asks this process for; return the exit code."""
    try:
        with cache.settled():
            return element(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
    except BadInput as problem:
        say(str(problem))
        return 2


if __name__ == "__main__":
    sys.exit(main())
