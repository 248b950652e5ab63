"""Tables of float points with labels, from an .npz or a .csv, and the two that papers on anomalies use.

Half of the rows are the test split; a tenth of the others validate. Columns are standardised by train: less
its mean, divided by its deviation. The class that is an anomaly is left out of train, unless the paper kept
it there.
"""

import gzip
import io
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from alibench.benchmarks.data import arrays
from alibench.benchmarks.data.sources import reading
from alibench.evaluation import files
from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed
from alibench.evaluation.store import home

LABELS = ("y", "label", "labels", "class", "target")  # of the column, or the array, in small letters


class PointTable:
    """table:PATH: an .npz of x (N, D) and y (N,), or a .csv with a header and a column `y` or `label`."""

    anomaly: ClassVar[int] = -1  # the class that is one, where it is known
    contaminated: ClassVar[bool] = False  # train keeps its anomalies
    test_first: ClassVar[bool] = False  # in the random order of the rows

    def __init__(self, path: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(path))
        self.name = Path(path).stem

    def files(self) -> dict[str, str]:
        """Return the file. Raises BadInput where there is none."""
        if not os.path.isfile(self.where):
            raise BadInput(f"there is no file {self.where}: name an .npz or a .csv by table:PATH")
        return {"table": self.where}

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return points (N, D) and labels (N,). Raises BadInput."""
        # A .csv, or arrays of numpy.
        if self.where.endswith(".csv"):
            return self._numbers(_csv(self.where))
        held = {name.lower(): array for name, array in arrays.read(self.where).items()}
        label = next((name for name in LABELS if name in held), "")
        if len(held) != 2 or not label or "x" not in held or held["x"].ndim != 2:
            raise BadInput(f"{self.where} holds {listed([*held])}: save x (N, D) and y (N,) by numpy.savez")
        return held["x"], held[label]

    def _numbers(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        # The column of labels, wherever it stands.
        label = next((name for name in frame.columns if str(name).lower() in LABELS), None)
        if label is None:
            raise BadInput(f"{self.where} has no column of labels: call one of them y or label")
        return frame.drop(columns=label).to_numpy(), frame[label].to_numpy()


def _csv(path: str) -> pd.DataFrame:
    """Return the columns of a .csv. Raises BadInput for one that is not made of numbers."""
    with reading():
        content = files.read(path, "text")

    # What pandas cannot take for numbers it reads as text.
    try:
        frame = pd.read_csv(io.BytesIO(content))
    except (ValueError, UnicodeDecodeError) as error:  # ParserError is a ValueError
        raise BadInput(
            f"{path} cannot be read ({files.one_line(str(error))}): save a table with a header"
        ) from None
    if text := [str(name) for name, kind in frame.dtypes.items() if kind.kind not in "buif"]:
        raise BadInput(f"{path} holds text in {listed(text)}: encode it in numbers, a column a category")
    return frame


class Downloaded(PointTable):
    """A published table, which the user puts into the folder of downloads."""

    name: str
    file: ClassVar[str]
    sha256: ClassVar[str]
    source: ClassVar[str]  # where it is to be had

    def __init__(self) -> None:
        self.where = str(home() / "raw" / self.file)

    def files(self) -> dict[str, str]:
        """Return the file. Raises BadInput where it is not there."""
        if not os.path.isfile(self.where):
            folder = os.path.dirname(self.where)
            raise BadInput(f"dataset '{self.name}' is not in {folder}: put {self.file} there, {self.source}")
        return {"table": self.where}

    def content(self) -> bytes:
        """Return the file's content. Raises BadInput for any other than the published one."""
        # What is not as published is not parsed.
        with reading():
            content = files.read(self.where, "arrays")
        if files.sha256_of(content) != self.sha256:
            raise BadInput(f"{self.where} is not as published: put {self.file} there, {self.source}")
        return content


class KDD99(Downloaded):
    """KDD Cup 1999, 10 %: 494,021 connections, 121 numbers each; the anomaly is what is not an attack.

    As EGBAD's code has it (Zenati et al. 2018): attacks are the majority, seven columns are one-hot.
    """

    name = "kdd99"
    file = "kddcup.data_10_percent.gz"
    sha256 = "8045aca0d84e70e622d1148d7df782496f6333bf6eb979a1b0837c42a9fd9561"
    source = "from figshare.com, files/5976042 (scikit-learn's fetch_kddcup99 has the same)"
    anomaly = 1
    # protocol, service, flag, land, logged in, host login, guest login
    categories: ClassVar[tuple[int, ...]] = (1, 2, 3, 6, 11, 20, 21)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the points, and 1 for normal connections."""
        # The last column names the attack.
        with gzip.open(io.BytesIO(self.content())) as file:
            frame = pd.read_csv(file, header=None)
        normal = (frame.pop(frame.columns[-1]) == "normal.").to_numpy()
        points = pd.get_dummies(frame, columns=[*self.categories], dtype=float)
        return points.to_numpy(dtype=float), normal.astype(np.int64)


class Arrhythmia(Downloaded):
    """Arrhythmia (UCI, as ODDS has it): 452 patients, 274 numbers each, 66 of them anomalies.

    As in ALAD (Zenati et al. 2018) train keeps its anomalies, some 15 %.
    """

    name = "arrhythmia"
    file = "arrhythmia.mat"
    sha256 = "e4d47e499591ae31e5d7f0cd983367092353eac240f48e14c9b36457edb3460d"
    source = "from odds.cs.stonybrook.edu (packages pyod and GOAD have the same)"
    anomaly = 1
    contaminated = True
    test_first = True

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the points, and 1 for anomalies."""
        from scipy.io import loadmat  # takes a second to import

        content: Any = io.BytesIO(self.content())  # which scipy's stubs do not know to be taken
        held = loadmat(content, variable_names=["X", "y"])
        return held["X"], held["y"][:, 0].astype(np.int64)


KNOWN: dict[str, type[Downloaded]] = {table.name: table for table in (KDD99, Arrhythmia)}


def load(table: PointTable, seed: int, anomaly: int) -> Data:
    """Return a table's splits by seed. Raises BadInput for what cannot be learnt from."""
    x, y = table.read()
    y = _checked(table, x, y)
    anomaly = table.anomaly if anomaly < 0 else anomaly

    # Rows at random; half of them test.
    order = np.random.RandomState(seed).permutation(len(y))
    half = (len(y) + table.test_first) // 2
    test, rest = (order[:half], order[half:]) if table.test_first else (order[half:], order[:half])
    tenth = len(rest) // 10
    train, validation = rest[: len(rest) - tenth], rest[len(rest) - tenth :]
    if not table.contaminated:
        train = train[y[train] != anomaly]
    if not len(train) or not tenth:
        raise BadInput(f"{table.where}: no rows are left to train on, or to validate: add some of class 0")

    # Standardised by train; what is constant there is only centred.
    mean, std = x[train].mean(0), x[train].std(0)
    x = ((x - mean) / np.where(std == 0, 1, std)).astype(np.float32)
    kept = "without anomalies" if anomaly >= 0 else "all of it"
    kept = "with its anomalies" if table.contaminated else kept
    rule = f"nine tenths of a half, {kept} / a tenth / the other half, by RandomState({seed})"
    if constant := int((std == 0).sum()):
        rule += f"; {constant} of {x.shape[1]} columns are constant in train, and not scaled"

    def split(rows: np.ndarray) -> Split:
        return Split(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))

    parts = split(train), split(validation), split(test)
    return Data(table.name, *parts, classes=int(y.max()) + 1, splits=rule, anomaly=anomaly)


def _checked(table: PointTable, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return labels as integers from 0. Raises BadInput for numbers that no model can learn from."""
    # Numbers, as many labels as points.
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biuf" or x.ndim != 2 or y.shape != x.shape[:1]:
        held = f"x {x.dtype} {x.shape} and y {y.dtype} {y.shape}"
        raise BadInput(f"{table.where} holds {held}: numbers (N, D) and (N,) are needed")
    if bad := int((~np.isfinite(x)).any(1).sum()):
        raise BadInput(f"{table.where}: {bad:,} rows hold NaN or infinity: fill or remove them")

    # Classes as integers, or as floats of integers.
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
        found = listed([f"{value:g}" for value in classes])
        raise BadInput(
            f"{table.where}: its labels are {found}: two classes or more are needed, from 0 without gaps"
        )
    return labels.astype(np.int64)
