"""A SLURM array of a command's runs, an element each: `--on slurm`. submitit makes the script, SLURM does all
the rest.

`DIR/slurm/array-1.json` says what each element is, `array-1.sh` is for sbatch. An element goes on from its
checkpoint, like any run. SLURM begins it again when a node fails; a signal shortly before its time is up lets
it end with a checkpoint, and it asks to be queued again.

    python -m benchmarks.on_slurm DIR/slurm/array-1.json  # does the element $SLURM_ARRAY_TASK_ID
"""

import argparse
import json
import math
import os
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
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outputs import Answer, Output
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.results import differences

FOLDER = "slurm"  # in a command's folder
VERSION = 1  # of array-N.json
LONGEST = 1000  # elements of an array: SLURM's own default allows 1,001
MINUTES = 24 * 60  # of an element, if nothing is said
WARNED = 90  # seconds before its time is up
SIGNAL = signal.SIGUSR2
# stands for % in a path, until submitit has filled in its %j: sbatch fills in what follows a single one
PERCENT = "\ue000"


# -------------------- in the command's process


class Said(msgspec.Struct):
    """What array-N.json says: what its elements have in common, and the job of each."""

    command: list[str]
    device: str
    every: Annotated[float, Meta(ge=0)]
    tensorboard: bool
    plugins: list[tuple[str, str]]  # path and name of each source
    elements: list[tuple[str, files.Name, files.Name, files.Seed]]  # kind, suite, model, seed


class Array:
    """What a command line asks for; `size` elements at a time, for what is estimated."""

    size = 1

    def __init__(self, given: argparse.Namespace) -> None:
        if given.device is None:
            raise BadInput(
                "--on slurm: say --device cuda or cpu: what the nodes have cannot be seen from here"
            )
        self.device, self.submit = torch.device(given.device), given.submit
        if self.device.type not in ("cpu", "cuda") or self.device.index is not None:
            raise BadInput(
                f"--device {given.device}: SLURM gives each element a device by itself: say cpu or cuda"
            )
        try:
            from submitit.slurm import slurm  # an extra
        except ImportError:
            raise BadInput("--on slurm needs the package submitit: pip install 'submitit<1.6'") from None
        self.slurm = slurm
        self.options: dict[str, Any] = {}
        for assignment in given.slurm:
            key, _, text = assignment.partition("=")
            check_name(key, slurm._get_default_parameters(), "--slurm: submitit has no option")
            try:
                self.options[key] = json.loads(text)
            except ValueError:
                self.options[key] = text
        if self.submit and not shutil.which("sbatch"):
            raise BadInput(
                "--submit: there is no sbatch here: leave it out, and send the script where there is one"
            )

    def _elements(self, work: Sequence[Job]) -> list[Sequence[Job]]:
        """Return the jobs of each array: all that are left but those of speed, which are timed with nothing
        beside them.
        """
        left = [job for job in work if job.kind != "throughput" and not job.outcome()]
        return [left[i : i + LONGEST] for i in range(0, len(left), LONGEST)]

    def script(self, elements: Sequence[Job], path: Path) -> str:
        """Return what sbatch takes; `path` is where the elements are said. Raises BadInput for options that
        cannot be.
        """
        taken = [job.suite.resources for job in elements]
        home = "ALIBENCH_DATA"
        wanted = {
            "job_name": elements[0].suite.name,
            "time": MINUTES,
            "cpus_per_task": math.ceil(max(own.cpus for own in taken)),
            "mem": f"{math.ceil(max(own.memory for own in taken))}GB",
            **({"gpus_per_node": 1} if self.device.type == "cuda" else {}),
        }
        first = self.options.get("setup", [])
        setup = [
            *([first] if isinstance(first, str) else first),
            *(
                f"export {name}={shlex.quote(value)}"
                for name, value in worker.environment(self.device).items()
            ),
            *([f"export {home}={shlex.quote(os.environ[home])}"] if home in os.environ else []),
            f"cd {shlex.quote(os.getcwd())}",
        ]
        # the shell gives its place to Python, so that the signal reaches it; -P: a models/ of the user's
        # hides none of ours
        command = shlex.join(
            ["exec", sys.executable, "-P", "-m", "alibench.benchmarks.running.slurm", str(path.absolute())]
        )
        own = {"signal": f"B:{SIGNAL.name.removeprefix('SIG')}@{WARNED}", "requeue": True}
        try:
            made: str = self.slurm._make_sbatch_string(
                command=command,
                folder=str(path.parent.absolute()).replace("%", PERCENT),
                map_count=len(elements),
                use_srun=False,
                additional_parameters=own,
                **{**wanted, **self.options, "setup": setup},
            )
        except (TypeError, ValueError) as error:
            raise BadInput(f"--slurm: {error}") from None
        return made.replace(PERCENT, "%%")

    def show(self, work: Sequence[Job], console: Console) -> Answer:
        """Print the scripts."""
        folder = work[0].out / FOLDER
        made = [
            self.script(elements, folder / f"array-{i}.json")
            for i, elements in enumerate(self._elements(work), _next(folder))
        ]
        for text in made:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return Answer(facts={"dry_run": True, "scripts": made})

    def write(self, work: Sequence[Job], out: Output, console: Console) -> Answer:
        """Write the scripts, and send them if that was asked for."""
        folder, sent, scripts = files.subfolder(out.path, FOLDER), list[str](), list[Path]()
        for i, elements in enumerate(self._elements(work), _next(folder)):
            said, script = folder / f"array-{i}.json", folder / f"array-{i}.sh"
            text = self.script(elements, said)
            body = {
                "command": elements[0].command,
                "device": str(self.device),
                "every": elements[0].every,
                "tensorboard": elements[0].tensorboard,
                "plugins": [[str(source.path), source.name] for source in plugins.LOADED],
                "elements": [[job.kind, job.suite.name, job.name, job.seed] for job in elements],
            }
            files.write_json(said, "array", VERSION, body)
            files.replace(script, text)
            scripts.append(script)
            told = f"{len(elements)} runs, an element each"
            if self.submit:
                sent.append(_send(script))
                console.print(f"{script}: {told}: sent as job {sent[-1]}", soft_wrap=True, highlight=False)
            else:
                console.print(f"sbatch {shlex.quote(str(script))}  # {told}", soft_wrap=True, highlight=False)
        if not scripts:
            console.print("all runs are finished", highlight=False)
        here = Output(out.path, tuple(_here(out.command))).resume
        console.print(
            f"{here}  # afterwards: what is left, speed, and the tables", soft_wrap=True, highlight=False
        )
        return Answer(facts={"out": out.path, "scripts": scripts, "submitted": sent})


def _here(command: Iterable[str]) -> Iterator[str]:
    """Yield a command without what makes an array of it."""
    words = iter(command)
    for word in words:
        if word in ("--on", f"--{FOLDER}"):
            next(words, None)
        elif word != "--submit" and not word.startswith(("--on=", f"--{FOLDER}=")):
            yield word


def _next(folder: Path) -> int:
    """Return the number of the next array: an earlier one may still wait for its turn."""
    return 1 + max((int(path.stem.rpartition("-")[2]) for path in folder.glob("array-*.json")), default=0)


def _send(script: Path) -> str:
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(
            f"sbatch refused {script}: {' '.join(done.stderr.split())}: change it by --slurm, or by hand"
        )
    return done.stdout.strip().partition(";")[0]


# -------------------- in an element's


def element(path: Path, index: int) -> int:
    """Do an element of an array; return 0, 1 if it failed. Raises BadInput, also where this is not what it
    was made for.
    """
    out = path.parent.parent
    try:
        array, begun = files.read_json(path, "array", VERSION, Said), outputs.read_plan(out)
    except (files.Damaged, OSError) as problem:
        raise BadInput(f"{problem}: write the array again") from None
    plugins.again(plugins.Plugin(Path(place), name) for place, name in array["plugins"])
    suites = {name: loading.of_plan(table) for name, table in begun["suites"].items()}
    device = devices.device(array["device"])
    begun.pop("command")
    if different := differences.differences(
        begun, outputs.plan(suites.values(), device, plugins=plugins.contents()), "here"
    ):
        raise BadInput(f"{out} was begun with something else: {different}")
    kind, suite, name, seed = array["elements"][index]
    job = Job(
        kind,
        suites[suite],
        name,
        seed,
        out,
        str(device),
        tuple(array["command"]),
        every=array["every"],
        tensorboard=array["tensorboard"],
    )
    request, taken = Request(), list[int]()

    def take(number: int, frame: Any) -> None:
        taken.append(number)
        request.take(number, frame)

    for number in (signal.SIGTERM, SIGNAL):
        signal.signal(number, take)
    outcome = (
        job.outcome()
        or worker.work([job], lambda run_id, steps: None, request, tuple(plugins.LOADED))[job.run_id]
    )
    print(f"{job.run_id}: {outcome}", flush=True)
    if outcome == worker.STOPPED and SIGNAL in taken:
        own = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}"
        subprocess.run(["scontrol", "requeue", own], check=False)
    return int(outcome.startswith(("failed", worker.STOPPED)))


def main() -> int:
    """Do the element that SLURM asks this process for."""
    try:
        with cache.settled():
            return element(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
    except BadInput as problem:
        say(str(problem))
        return 2


if __name__ == "__main__":
    sys.exit(main())
