"""Fitting a dataset's classifier to its train labels."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from alibench.evaluation import sealed
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import classifiers
from alibench.evaluation.features.classifier_networks import network_for
from alibench.evaluation.features.classifiers import COUNTS, Skill
from alibench.evaluation.features.extractor import CPU
from alibench.evaluation.seeds import generator
from alibench.evaluation.store import home

EPOCHS = {"mnist-cnn": 2, "fashion_mnist-cnn": 6}  # of the shipped networks with batch norm


@dataclass(frozen=True)
class Schedule:
    """AdamW over so many batches, its rate rising to `lr` and falling linearly to zero."""

    steps: int
    batch: int
    lr: float
    weight_decay: float = 1e-4
    rising: float = 0.0  # share of the steps

    def factor(self, step: int) -> float:
        """Return what lr is multiplied by at a step, counted from 0."""
        rising = self.rising * self.steps
        return (step + 1) / rising if step + 1 < rising else (self.steps - step) / (self.steps - rising)


def schedule(data: Data) -> Schedule:
    """Return the schedule of the data's classifier.

    40 epochs in batches of 50, at most 4,000 of these. With batch norm a few epochs are enough, at a higher
    rate.
    """
    # no more images in a batch than there are
    images = len(data.train)
    if data.extractor in EPOCHS:
        batch = min(100, images)
        return Schedule(EPOCHS[data.extractor] * (images // batch), batch, 1e-2, 1e-2, rising=0.2)
    batch = min(50, images)
    return Schedule(min(40 * (images // batch), 4000), batch, 3e-3)


def _batches(n: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield indices of batches without end: a fresh permutation every epoch, its remainder dropped."""
    while True:
        yield from torch.randperm(n, generator=rng)[: n // batch * batch].split(batch)


@tf32(False)
def fit(data: Data, device: torch.device = CPU, seed: int = 0) -> nn.Module:
    """Return the dataset's classifier, fitted to its train labels. Raises BadInput without classes."""
    classifiers.check_classes(data)
    x, y, plan = data.train.x, data.train.y, schedule(data)

    # torch draws first weights from its global generator, which goes on as if nothing had happened
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = network_for(data).to(device)
    # a third faster; the shipped weights of digits come from the usual order
    if data.extractor != "digits-cnn":
        network = network.to(memory_format=torch.channels_last)

    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, plan.factor)
    for index in islice(_batches(len(x), plan.batch, generator(seed, "extractor")), plan.steps):
        optimiser.zero_grad()
        logits = network(as_float(x[index].to(device)))[1]
        nn.functional.cross_entropy(logits, y[index].to(device)).backward()
        optimiser.step()
        rates.step()
    return network.eval()


def save(network: nn.Module, data: Data, command: str) -> tuple[Path, str]:
    """Write the weights with their command, the data's hash and the skill; return path and skill.

    Weights that come with the project are not replaced: new ones are written into the user's folder. Raises
    BadInput if they cannot be written.
    """
    # The file holds tensors in the usual order, whatever they were fitted in.
    network.to(CPU).to(memory_format=torch.contiguous_format)
    skill = Skill.of(network, data)
    metadata = {
        "command": command,
        "data": f"{data.name} train, sha256 {data.sha256}",
        "torch": torch.__version__,
        "accuracy": f"{100 * skill.right / skill.images:.2f} % on validation",
        **dict(zip(COUNTS, map(str, (skill.right, skill.largest, skill.images)), strict=True)),
    }

    file = home() / "extractors" / classifiers.path(replace(data, extractor="")).name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sealed.write_tensors(file, classifiers.KIND, classifiers.VERSION, network.state_dict(), metadata)
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"cannot write {file} ({reason}): make room or set ALIBENCH_DATA") from None
    return file, str(skill)
