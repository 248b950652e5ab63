"""Trackers: TensorBoard, Weights & Biases and MLflow, which show the curves and tables of runs.

Each is made for one run, in a folder of the output that is called by its name, and resumes the run that the
folder knows. What it raises is taken by tracking.py. Its package is imported where one is made, and never
else: all of them are extras.
"""

import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec
import numpy as np
import pandas as pd
from msgspec import Meta
from PIL import Image

from alibench.evaluation import files, sealed
from alibench.results.stored import RESOLVE

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
Lines = Sequence[Mapping[str, str]]  # of a table, cells by the titles of their columns

VERSION = 1  # of RUN.json
LOCK, LOCK_WAIT = ".lock", 60.0  # of MLflow's folder, seconds
SECONDS = "60"  # for W&B's last upload, and for each of MLflow's requests
RETRIES = "1"  # of MLflow's requests
PARAMS = 100  # of a request: MLflow refuses more


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers show it."""

    out: Path
    project: str  # the suite's name; MLflow's experiment
    name: str
    settings: Mapping[str, Any]  # as JSON has them


class Tracker(Protocol):
    """A tracker of one run."""

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        """Begin the run, or resume it; `folder` is the tracker's own."""

    @staticmethod
    def defaults(run: TrackedRun, folder: Path) -> dict[str, str]:
        """Return what its package is to find in the environment where the user's says nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write a point of each curve; steps grow, and may come again after the run was resumed."""

    def publish(self, tables: Mapping[str, Lines], pictures: Sequence[Path]) -> None:
        """Write tables and pictures."""

    def close(self, ended: bool) -> None:
        """Close the run, which has ended or will be resumed."""


# -------------------- what a run is called by its tracker


class Identity(msgspec.Struct):
    """The content of RUN.json. It holds no address: that may have a password in it."""

    id: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_-]{1,64}\Z")]


def known(folder: Path, name: str) -> str | None:
    """Return what a tracker calls a run, None if it does not know it. Raises OSError, files.Damaged."""
    path = files.child(folder, f"{name}.json")
    if not os.path.lexists(path):
        return None
    identity: str = sealed.read_json(path, "tracker", VERSION, Identity)["id"]
    return identity


def keep(folder: Path, name: str, identity: str) -> None:
    """Store what a tracker calls a run. Raises OSError."""
    sealed.write_json(files.child(folder, f"{name}.json"), "tracker", VERSION, {"id": identity})


# -------------------- trackers


class TensorBoard:
    """Writes TensorBoard's events.

    Each point is on its way to the disk when the next comes, so that a killed training loses none before its
    checkpoint. Points that come again replace the first.
    """

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        self.folder = files.subfolder(folder, run.name)
        self.writer: Any = None

    @staticmethod
    def defaults(run: TrackedRun, folder: Path) -> dict[str, str]:
        """Return nothing."""
        return {}

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write a point of each curve."""
        writer = self._from(step)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def publish(self, tables: Mapping[str, Lines], pictures: Sequence[Path]) -> None:
        """Write tables as texts, and pictures."""
        writer = self._from(0)
        for name, lines in tables.items():
            writer.add_text(name, pd.DataFrame(lines).to_markdown(index=False))
        for picture in pictures:
            writer.add_image(picture.stem, np.asarray(Image.open(picture).convert("RGB")), dataformats="HWC")

    def close(self, ended: bool) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()

    def _from(self, step: int) -> Any:
        """Return the writer; events from this step on were written before what the run resumes from."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.folder, purge_step=step)
        return self.writer


class WeightsAndBiases:
    """Sends a run to Weights & Biases, or keeps it in the output where nobody is logged in.

    Its server drops points that come again.
    """

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        import wandb

        # A link in the place of W&B's own folders is refused: it would be followed.
        files.subfolder(folder, "artifacts", "staging")

        # The identity first: whatever a killed process sent is found by it.
        identity = known(folder, run.name) or uuid.uuid4().hex
        keep(folder, run.name, identity)
        self.wandb = wandb
        self.run = wandb.init(
            project=os.environ["WANDB_PROJECT"],
            dir=os.environ["WANDB_DIR"],
            name=run.name,
            id=identity,
            resume="allow",
            config=dict(run.settings),
            mode="offline" if self.lacks_login() else None,
            # Stacked seeds have runs side by side.
            reinit="create_new",
            # Links of parallel runs to the latest would replace one another.
            settings=wandb.Settings(symlink=False),
        )

    @staticmethod
    def defaults(run: TrackedRun, folder: Path) -> dict[str, str]:
        """Return the suite as its project, the output as its place, and that it neither prints nor waits."""
        return {
            "WANDB_PROJECT": run.project,
            # It makes its folder wandb in the one, and keeps parts of tables in the other.
            "WANDB_DIR": str(folder.parent.absolute()),
            "WANDB_DATA_DIR": str(folder.absolute()),
            # The command's own output stays as it is.
            "WANDB_SILENT": "true",
            "WANDB_CONSOLE": "off",
            # Without a limit a lost network would be waited for.
            "WANDB_FINISH_TIMEOUT": SECONDS,
            "WANDB_FINISH_TIMEOUT_RAISES": "true",
        }

    @staticmethod
    def lacks_login() -> bool:
        """Return whether it would ask for a login: nobody is logged in, and no mode is set."""
        import wandb

        asks = wandb.setup().settings.mode == "online"
        return asks and not wandb.login(prompt=False, verify=False)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send a point of each curve."""
        self.run.log(dict(values), step=step, commit=True)

    def publish(self, tables: Mapping[str, Lines], pictures: Sequence[Path]) -> None:
        """Send tables and pictures."""
        shown: dict[str, Any] = {picture.stem: self.wandb.Image(str(picture)) for picture in pictures}
        for name, lines in tables.items():
            cells = [list(line.values()) for line in lines]
            shown[name] = self.wandb.Table(columns=list(lines[0]), data=cells)
        self.run.log(shown)

    def close(self, ended: bool) -> None:
        """Finish the run. Raises TimeoutError if it cannot be sent in a minute."""
        self.run.finish(exit_code=0 if ended else 1)


class MLflow:
    """Writes a run to the user's MLflow store, or to files in the output.

    Points that come again are left out.
    """

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        from mlflow import MlflowClient

        _check_links(folder)
        self.folder, self.steps = folder, dict[str, int]()
        self.is_local = os.environ["MLFLOW_TRACKING_URI"] == _address(folder)
        self.client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])

        # Of runs that begin at once one makes the experiment.
        with files.locked(folder / LOCK, LOCK_WAIT):
            self.run = self._resumed(known(folder, run.name))
            self.resumed = self.run is not None
            if not self.resumed:
                self.run = self._begun(run)
                keep(folder, run.name, self.run.info.run_id)
        self.id: str = self.run.info.run_id

    @staticmethod
    def defaults(run: TrackedRun, folder: Path) -> dict[str, str]:
        """Return the suite as its experiment, files as its store, and how long a server is waited for."""
        return {
            "MLFLOW_TRACKING_URI": _address(folder),
            "MLFLOW_EXPERIMENT_NAME": run.project,
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": SECONDS,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": RETRIES,
        }

    def _resumed(self, identity: str | None) -> Any:
        """Return the run of an earlier training; None if there is none, or its store has lost it."""
        from mlflow.exceptions import MlflowException

        if identity is None:
            return None
        try:
            self.client.update_run(identity, status="RUNNING")
            return self.client.get_run(identity)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _begun(self, run: TrackedRun) -> Any:
        """Return a new run with its settings."""
        from mlflow.entities import Param

        # The experiment is that of all runs of the suite.
        name = os.environ["MLFLOW_EXPERIMENT_NAME"]
        experiment = self.client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self.client.create_experiment(name)
        begun = self.client.create_run(place, run_name=run.name)

        # Settings once: they cannot be changed later.
        params = [Param(_allowed(key), value) for key, value in flat(run.settings).items()]
        for first in range(0, len(params), PARAMS):
            self.client.log_batch(begun.info.run_id, params=params[first : first + PARAMS])
        return begun

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write a point of each curve that has not come this far."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {_allowed(name): value for name, value in values.items()}
        points = [Metric(name, value, now, step) for name, value in named.items() if step > self._last(name)]
        self.client.log_batch(self.id, metrics=points)

    def _last(self, name: str) -> int:
        """Return the last step of a curve that was written before the run was resumed, -1 for none."""
        if name not in self.steps:
            history = self.client.get_metric_history(self.id, name) if self.resumed else ()
            self.steps[name] = max((point.step for point in history), default=-1)
        return self.steps[name]

    def publish(self, tables: Mapping[str, Lines], pictures: Sequence[Path]) -> None:
        """Write tables as CSV, and pictures. Raises files.Unsafe if a store in the output leads out of it."""
        # A store has its own place in it, and keeps it when the output is moved.
        place = Path(url2pathname(urlsplit(self.run.info.artifact_uri).path))
        if self.is_local and not place.resolve().is_relative_to(self.folder.resolve()):
            raise files.Unsafe(self.folder, f"was made to keep files in {place}: remove it")

        for name, lines in tables.items():
            self.client.log_text(self.id, pd.DataFrame(lines).to_csv(index=False), f"tables/{name}.csv")
        for picture in pictures:
            self.client.log_artifact(self.id, str(picture), "figures")

    def close(self, ended: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.id, "FINISHED" if ended else "KILLED")


def _check_links(folder: Path) -> None:
    """Raise files.Unsafe for a folder from which a link leads elsewhere: libraries would follow it."""
    for place, folders, names in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *names)):
            if path.is_symlink():
                raise files.Unsafe(path, f"is a symbolic link: {RESOLVE}")


def _address(folder: Path) -> str:
    return folder.absolute().as_uri()


def _allowed(name: str) -> str:
    """Return a name with the signs that MLflow takes."""
    return re.sub(r"[^\w/. -]", "_", name)


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return nested settings by names like recipe.lr, in texts."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{above}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return found


TRACKERS: dict[TrackerName, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
