"""The datasets by name: toys that are made here, published ones, and the user's, as folder:PATH.

Splits are fixed: they depend on no seed of a run, and on no version of a library (numpy's RandomState is
frozen). So is the order in each, which is random, so that the first n of a split are a random draw of it.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from alibench.benchmarks.data import cache, outline, tables
from alibench.benchmarks.data.arrays import Npz
from alibench.benchmarks.data.published import PUBLISHED
from alibench.benchmarks.data.sources import Folder, Options, Source
from alibench.benchmarks.data.tables import KNOWN, PointTable
from alibench.evaluation import files
from alibench.evaluation.data import Data, Mixture, Split
from alibench.evaluation.errors import BadInput, check_name


def gaussians(name: str, centres: np.ndarray, std: float, sizes: tuple[int, int, int], seed: int) -> Data:
    """Return equal isotropic Gaussians around `centres` (K, D), three splits of `sizes` drawn apart."""
    # one generator for all three splits, train first
    rng = np.random.RandomState(seed)

    def points(n: int) -> Split:
        y = rng.randint(len(centres), size=n)
        x = centres[y] + std * rng.standard_normal((n, centres.shape[1]))
        return Split(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))

    train, validation, test = map(points, sizes)
    mixture = Mixture(torch.from_numpy(centres.astype(np.float32)), std)
    return Data(name, train, validation, test, classes=len(centres), mixture=mixture, splits="drawn apart")


def grid(name: str, spacing: float, std: float) -> Data:
    """Return 25 equal Gaussians on a 5x5 grid around the origin: 100,000 / 10,000 / 10,000 points.

    The released code validates on its training points; here all three are drawn apart.
    """
    steps = spacing * (np.arange(5) - 2)
    centres = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(25, 2)
    return gaussians(name, centres, std, sizes=(100_000, 10_000, 10_000), seed=25)


def grid25() -> Data:
    """ALI's 25 Gaussians (section 4.5): spacing 2, deviation 0.05; a mode every 40 deviations."""
    return grid("grid25", spacing=2.0, std=0.05)


def grid25_easy() -> Data:
    """25 Gaussians with spacing 1 and deviation 0.1: ten deviations from mode to mode, learnt in a minute."""
    return grid("grid25_easy", spacing=1.0, std=0.1)


def ring8() -> Data:
    """Eight Gaussians on the unit circle, deviation 0.01 (PacGAN, Lin et al. 2018).

    100,000 / 10,000 / 10,000 points. The angles are 2 pi k / 8. Two public codes take eight from 0 to 2 pi
    with both ends, which are one point: seven modes, one of double weight.
    """
    angles = 2 * np.pi * np.arange(8) / 8
    # rounded, so that no library's last digit moves a split
    centres = np.round(np.stack([np.cos(angles), np.sin(angles)], 1), 9)
    return gaussians("ring8", centres, std=0.01, sizes=(100_000, 10_000, 10_000), seed=8)


def alice_toy() -> Data:
    """ALICE's toy (Li et al. 2017): five Gaussians, at the origin and the corners (±2, ±2), of deviation 0.2.

    Its script says 0.04, which it uses as a variance. 2,048 / 1,024 / 1,024 points.
    """
    centres = np.array([(0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2)], dtype=float)
    return gaussians("alice_toy", centres, std=0.2, sizes=(2048, 1024, 1024), seed=5)


def digits() -> Data:
    """Scikit-learn's 1,797 handwritten 8x8 digits (UCI optical recognition): 60 / 20 / 20 % of each class."""
    from sklearn.datasets import load_digits  # takes a second to import

    # the 17 grey levels as uint8
    raw = load_digits()
    x = torch.from_numpy(np.round(raw.images * 255 / 16).astype(np.uint8))[:, None]
    y = torch.from_numpy(raw.target.astype(np.int64))

    # a fixed permutation deals out each class's images
    rng = np.random.RandomState(0)
    parts: list[list[np.ndarray]] = [[], [], []]
    for c in range(10):
        members = rng.permutation(np.flatnonzero(raw.target == c))
        fifth = len(members) // 5
        dealt = np.split(members, [len(members) - 2 * fifth, len(members) - fifth])
        for part, share in zip(parts, dealt, strict=True):
            part.append(share)

    # and another one mixes the classes
    indices = [torch.from_numpy(rng.permutation(np.concatenate(part))) for part in parts]
    train, validation, test = (Split(x[index], y[index]) for index in indices)
    rule = "60 % / 20 % / 20 % of each class, by RandomState(0)"
    return Data("digits", train, validation, test, classes=10, extractor="digits-cnn", splits=rule)


DATASETS: dict[str, Callable[..., Data | Source | PointTable]] = {
    **{make.__name__: make for make in (grid25, grid25_easy, ring8, alice_toy, digits)},
    **PUBLISHED,
    **KNOWN,
}
OPENED: dict[str, type[Folder] | type[Npz]] = {"folder": Folder, "npz": Npz}
PLACES: dict[str, type[Folder] | type[Npz] | type[PointTable]] = {**OPENED, "table": PointTable}
OPEN = {f"{kind}:PATH": (source.__doc__ or "").split("\n")[0] for kind, source in PLACES.items()}
AS_IT_IS = Options()


def source_of(name: str) -> Source | None:
    """Return the source of a published dataset, of folder:PATH or npz:PATH; None for any other name."""
    kind, _, path = name.partition(":")
    if kind in OPENED and path:
        return OPENED[kind](path)
    return PUBLISHED[name]() if name in PUBLISHED else None


def table_of(name: str) -> PointTable | None:
    """Return the table of that name, or table:PATH; None for any other name."""
    kind, _, path = name.partition(":")
    if kind == "table" and path:
        return PointTable(path)
    return KNOWN[name]() if name in KNOWN else None


def load(name: str, options: Options = AS_IT_IS) -> Data:
    """Return the dataset of that name, on the CPU. Raises BadInput if there is none, or if it cannot be used.

    Files are looked at each time: data are the same object as before until a file changes.
    """
    if table := table_of(name):
        if options.size or options.channels:
            raise BadInput(f"dataset '{name}' holds points: remove size and channels")
        # the splits of each seed are data of their own
        key = name, options, table.where
        look = cache.look
        return cache.of_files(
            key,
            lambda: look(table.files(), "arrays"),
            lambda state: tables.load(table, options.seed, options.anomaly),
        )

    # which class is an anomaly does not change what is decoded
    data = _load(name, replace(options, resplit=False, anomaly=-1))
    return _without(data, options.anomaly) if options.anomaly >= 0 else data


def _load(name: str, options: Options) -> Data:
    source = source_of(name)
    # toys have no files
    if source is None:
        check_name(name, [*DATASETS, *OPEN], "unknown dataset")
        if options != AS_IT_IS:
            raise BadInput(f"dataset '{name}' takes no options: remove size, channels and seed")
        return _toy(DATASETS[name])

    # or noise in their place, in a dry run
    if (data := outline.load(source, options)) is not None:
        return data
    key = name, options, source.where
    return cache.of_files(key, lambda: cache.find(source), lambda state: cache.load(source, options, state))


@functools.cache
def _toy(make: Callable[[], Data]) -> Data:
    return make()


_lacking: dict[tuple[str, int], Data] = {}  # by the hash of the data


def _without(data: Data, anomaly: int) -> Data:
    """Return data whose train split lacks a class. Raises BadInput where that leaves nothing, or all."""
    key = data.sha256, anomaly
    if key not in _lacking:
        # attributes are not classes
        normal = data.train.y != anomaly if data.train.y.dim() == 1 else None
        if normal is None or anomaly >= data.classes or not bool(normal.any()):
            raise BadInput(
                f"dataset '{data.name}' has no class {anomaly} next to others: data.anomaly names one of its "
                f"{data.classes} classes, from 0"
            )
        train = Split(data.train.x[normal], data.train.y[normal])
        content = files.digest(f"{data.sha256} without {anomaly}")
        splits = f"{data.splits}; train without class {anomaly}"
        name = f"{data.name}-without-{anomaly}"
        _lacking[key] = replace(data, name=name, train=train, content=content, splits=splits, anomaly=anomaly)
    return _lacking[key]


def check_known(run: Mapping[str, Any]) -> None:
    """Refuse to open a path that a run.json names, unless its data were read here before. Raises BadInput."""
    name = run["config"].get("dataset")
    if not isinstance(name, str) or name.partition(":")[0] not in PLACES or cache.holds(run["data_sha256"]):
        return
    raise BadInput(
        f"run {run['run_id']} names the data '{name}', which nobody has read here yet, so it was not "
        "opened: if you trust that path, or another with the same content, name it by --data"
    )
