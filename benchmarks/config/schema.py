"""The schema of suites: what a TOML file may say, and what it means."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import torch
from msgspec import Meta

from alibench import models
from alibench.benchmarks.config import blame
from alibench.benchmarks.config.parsing import check_options, parse
from alibench.benchmarks.data import datasets
from alibench.benchmarks.data.datasets import Options
from alibench.benchmarks.training import randomness
from alibench.benchmarks.training.recipe import Decay, Rate, Recipe
from alibench.evaluation.data import Amount, Data, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.models.base import Model
from alibench.models.layers import TooLarge, Unfit
from alibench.models.networks import Family, Networks
from alibench.models.tables import FAMILIES
from alibench.results.cells import Gated

Seeds = Annotated[int, Meta(ge=1, le=10_000)]  # each is a job


@dataclass(frozen=True)
class Entry:
    """A row of the tables: a model, and how it differs from the suite's recipe; a [model.NAME] table."""

    of: str = ""  # the model, where it is not NAME itself
    title: str = ""
    # another entry: this one trains for as many floating-point operations, all phases scaled alike
    compute: str = ""
    latent: Amount | None = None  # numbers in z, where they are not the suite's
    recipe: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """The tuning trials of every model, the product of the lists, judged on validation; a [search] table."""

    lr: Annotated[list[Rate], Meta(min_length=1)]
    beta1: Annotated[list[Decay], Meta(min_length=1)]
    # measures; a trial's score is its mean rank over them; between equals the last decides
    judged_by: Annotated[list[str], Meta(min_length=1)]
    # of each trial; none of them is a seed of any table
    seeds: Seeds = 1


@dataclass(frozen=True)
class Ranges:
    """Settings that every seed draws at random, first and last value of each; a [draw] table."""

    # learning rate, evenly on the logarithm
    lr: tuple[Rate, Rate]
    beta1: tuple[Decay, Decay]
    # deviation of the first weights, evenly on the logarithm
    std: tuple[Rate, Rate]


@dataclass(frozen=True)
class Resources:
    """What one run takes of a machine, so that as many run at once as fit; a [resources] table.

    It changes no number: on a CPU a run computes in one thread, whatever it is given.
    """

    # cores
    cpus: Annotated[float, Meta(gt=0)] = 1.0
    # share of a GPU, where it computes on one: two runs of a half share it (Ray)
    gpus: Annotated[float, Meta(gt=0, le=1)] = 1.0
    # GB of the machine's, libraries included
    memory: Annotated[float, Meta(gt=0)] = 1.0


@dataclass(frozen=True)
class Suite:
    """One dataset's comparison."""

    # What is regenerated: the table's source; the time it takes and its result.
    title: str
    source: str
    expect: str

    # On which data, with which family of layer tables, and how many numbers in z.
    dataset: str
    networks: str
    latent: Amount

    # Rows and columns of the tables.
    models: Annotated[list[str], Meta(min_length=1)]
    metrics: list[str]

    # How often each model is trained, and how. numpy's seeds have 32 bits.
    recipe: Recipe
    seeds: Seeds = 3
    first_seed: Annotated[int, Meta(ge=0, le=4 * 10**9)] = 0

    # Optional fields and tables.
    prior: str = "normal"  # of z, N(0, I); "uniform": on [-1, 1]
    data: Options = field(default_factory=Options)
    network: dict[str, Any] = field(default_factory=dict)  # named options of the layer tables
    draw: Ranges | None = None
    evaluation: Settings = field(default_factory=Settings)
    resources: Resources = field(default_factory=Resources)
    model: dict[str, Entry] = field(default_factory=dict)
    search: Search | None = None
    gate: list[Gated] = field(default_factory=list)  # what `alibench regression` judges
    name: str = ""  # of the file

    # -------------------- entries

    @property
    def training_seeds(self) -> range:
        """The seeds that every model is trained with."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def of_seed(self, seed: int) -> "Suite":
        """Return the suite as a run of that seed has it: with splits of its own if `data.resplit`."""
        if not self.data.resplit:
            return self
        return replace(self, data=replace(self.data, seed=self.data.seed + seed, resplit=False))

    def kind(self, name: str) -> type[Model]:
        """Return the model of an entry."""
        return models.REGISTRY[self.model.get(name, Entry()).of or name]

    def entry(self, name: str) -> Entry:
        """Return an entry with its model and title filled in."""
        entry, kind = self.model.get(name, Entry()), self.kind(name)
        title = entry.title or getattr(kind, "title", name)  # there is none while a plug-in is only checked
        return replace(entry, of=kind.name, title=f"{title}{', trained elsewhere' * kind.elsewhere}")

    def latent_of(self, name: str) -> int:
        """Return how many numbers an entry's z has."""
        return self.model.get(name, Entry()).latent or self.latent

    def seeds_of(self, name: str) -> range:
        """Return the seeds of an entry's runs: the first alone, where another would train nothing anew."""
        return self.training_seeds[:1] if self.kind(name).elsewhere else self.training_seeds

    def recipe_of(self, name: str, seed: int = 0) -> Recipe:
        """Return the recipe of an entry, with the settings that the seed draws. Raises BadInput."""
        where = f"suite '{self.name}', model.{name}.recipe"
        recipe: Recipe = parse({**asdict(self.recipe), **self.model.get(name, Entry()).recipe}, Recipe, where)
        drawn = self.drawn(seed)
        return replace(recipe, lr=drawn["lr"], beta1=drawn["beta1"]) if drawn else recipe

    def drawn(self, seed: int) -> dict[str, float]:
        """Return the settings that a seed draws, equal for all models; empty where the suite draws none."""
        if self.draw is None:
            return {}
        rng = generator(seed, "settings")
        shares = torch.rand(3, generator=rng, dtype=torch.float64, device="cpu").tolist()
        (lr, lr_end), (beta1, beta1_end), (std, std_end) = self.draw.lr, self.draw.beta1, self.draw.std
        return {
            "lr": lr * (lr_end / lr) ** shares[0],
            "beta1": beta1 + (beta1_end - beta1) * shares[1],
            "std": std * (std_end / std) ** shares[2],
        }

    # -------------------- data, networks, models

    def check_trains(self) -> None:
        """Raise BadInput for a model that cannot be trained."""
        if other := next((name for name in self.models if self.kind(name).elsewhere), ""):
            raise BadInput(
                f"'{other}' was trained elsewhere, so there is nothing to train: name other models"
            )

    def load(self) -> Data:
        """Return the suite's data."""
        return datasets.load(self.dataset, self.data)

    def family(self, seed: int = 0) -> Family:
        """Return the layer tables, with the first weights' deviation that the seed draws. Raises BadInput."""
        where, owner = f"suite '{self.name}', network", f"networks '{self.networks}'"
        family: Family = _call(FAMILIES[self.networks], self.network, where, owner)
        drawn = self.drawn(seed)
        return replace(family, std=drawn["std"]) if drawn else family

    def build(self, name: str, seed: int) -> Model:
        """Return an entry's model with its first weights. Raises BadInput for options that it lacks."""
        loaded = self.load()
        mean = _mean_image(loaded, seed) if loaded.images else None
        return self.build_for(loaded.shape, loaded.scale, loaded.labels, name, seed, mean)

    def shapes(self, name: str) -> Model:
        """Return an entry's model on the device "meta": shapes without contents, its phases and players.

        The data need not be there if they are published. A model of the user's is built with its contents.
        Raises BadInput as `build`.
        """
        # its constructor may compute with its parameters
        if self.kind(name) in blame.PLACES:
            return self.build(name, 0)
        loaded = self.load()
        with torch.device("meta"):
            return self.build_for(loaded.shape, loaded.scale, loaded.labels, name, 0)

    def build_for(
        self,
        shape: tuple[int, ...],
        scale: float,
        labels: int,
        name: str,
        seed: int,
        mean: torch.Tensor | None = None,
    ) -> Model:
        """Return an entry's model for data of that shape, which need not be there. Raises BadInput."""
        entry, rng = self.entry(name), generator(seed, "weights")
        prior: Any = self.prior
        networks = Networks(self.family(seed), shape, scale, self.latent_of(name), rng, prior, labels, mean)
        kind, where, owner = self.kind(name), f"suite '{self.name}', model.{name}", f"model '{entry.of}'"
        try:
            # for what networks.rng does not draw
            with randomness.seeded(generator(seed, "modules").initial_seed()):
                model: Model = _call(kind, entry.options, f"{where}.options", owner, networks)
            model.noise(self.recipe_of(name).batch)
        except TooLarge as problem:
            raise BadInput(f"{where}: {problem}: set a smaller latent, or smaller images by --size") from None
        except Unfit as problem:
            if kind not in blame.PLACES:
                raise BadInput(f"{where}: {problem}") from None
            raise blame.Blamed(f"{blame.PLACES[kind]}: {where}: {problem}") from None
        except BadInput:
            raise
        except Exception as error:
            if kind not in blame.PLACES:
                raise
            raise blame.Blamed(blame.in_model(error, kind)) from None
        return model


@dataclass(frozen=True)
class Collection:
    """Several suites that run together."""

    title: str
    expect: str
    include: Annotated[list[str], Meta(min_length=1)]


def _mean_image(loaded: Data, seed: int) -> torch.Tensor:
    """Return the mean of 500 images of train (C, H, W), from which ALI's code starts the output bias."""
    index = torch.randperm(len(loaded.train), generator=generator(seed, "mean image"))[:500]
    return as_float(loaded.train.x[index]).mean(0)


def _call(
    function: Callable[..., Any], options: Mapping[str, Any], where: str, owner: str, *arguments: Any
) -> Any:
    """Call a family or a model with named options. Raises BadInput for a wrong option."""
    check_options(function, options, where, owner)
    return function(*arguments, **options)
