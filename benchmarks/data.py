"""The data sets, each a function that returns its three splits. Those here need no download.

Splits are fixed: they depend on no seed of a run, and on no version of a library (numpy's RandomState is frozen).
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from evaluation.base import BadInput, Data, Mixture, Split


def grid(name: str, spacing: float, std: float) -> Data:
    """25 equal Gaussians on a 5x5 grid around the origin; 100,000 points for training, 10,000 each to validate and test.

    The released code validates on its training points; here all three are drawn apart.
    """
    steps = spacing * (np.arange(5) - 2)
    centres = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(25, 2)
    rng = np.random.RandomState(25)

    def points(n: int) -> Split:
        y = rng.randint(25, size=n)
        x = centres[y] + std * rng.standard_normal((n, 2))
        return Split(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))

    train, validation, test = points(100_000), points(10_000), points(10_000)
    mixture = Mixture(torch.from_numpy(centres.astype(np.float32)), std)
    return Data(name, train, validation, test, classes=25, mixture=mixture)


def grid25() -> Data:
    """ALI's 25 Gaussians (section 4.5): spacing 2, deviation 0.05; a mode every 40 deviations."""
    return grid("grid25", spacing=2.0, std=0.05)


def grid25_easy() -> Data:
    """25 Gaussians with spacing 1 and deviation 0.1: ten deviations from mode to mode, learnt in a minute."""
    return grid("grid25_easy", spacing=1.0, std=0.1)


def digits() -> Data:
    """Scikit-learn's 1,797 handwritten 8x8 digits (UCI optical recognition): 60 % train, 20 % validation, 20 % test.

    Stratified: within each class a fixed permutation deals its images out. The 17 grey levels become uint8.
    """
    raw = load_digits()
    x = torch.from_numpy(np.round(raw.images * 255 / 16).astype(np.uint8))[:, None]
    y = torch.from_numpy(raw.target.astype(np.int64))
    rng = np.random.RandomState(0)
    parts: list[list[np.ndarray]] = [[], [], []]
    for c in range(10):
        members = rng.permutation(np.flatnonzero(raw.target == c))
        fifth = len(members) // 5
        for part, dealt in zip(parts, np.split(members, [len(members) - 2 * fifth, len(members) - fifth]), strict=True):
            part.append(dealt)
    indices = [torch.from_numpy(rng.permutation(np.concatenate(part))) for part in parts]
    train, validation, test = (Split(x[index], y[index]) for index in indices)
    return Data("digits", train, validation, test, classes=10, extractor="digits-cnn")


DATASETS: dict[str, Callable[[], Data]] = {"grid25": grid25, "grid25_easy": grid25_easy, "digits": digits}


@cache
def load(name: str) -> Data:
    """Return the data set of that name, on the CPU. Raises BadInput if there is none."""
    if name not in DATASETS:
        raise BadInput(f"unknown data set '{name}'; there are: {', '.join(DATASETS)}")
    return DATASETS[name]()


class Batches:
    """Index batches of data that stay on the device, as models see them: a fresh permutation every epoch.

    The remainder of an epoch is dropped. Nothing here waits for the device.
    """

    def __init__(self, split: Split, size: int, rng: torch.Generator) -> None:
        self.x, self.y = split.x.to(rng.device), split.y.to(rng.device)
        self.size, self.rng = size, rng
        self.order, self.position = torch.empty(0, dtype=torch.long, device=rng.device), 0

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next x (size, ...) and y (size,)."""
        if self.position + self.size > len(self.order):
            self.order = torch.randperm(len(self.x), generator=self.rng, device=self.rng.device)
            self.position = 0
        index = self.order[self.position : self.position + self.size]
        self.position += self.size
        x = self.x[index]
        return x.float().div_(255) if x.dtype == torch.uint8 else x, self.y[index]
