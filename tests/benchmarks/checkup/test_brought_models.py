"""Models of plain torch and objects of other libraries are taken as they are: seeded, resumed, checked,
measured.
"""

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.config import loading, plugins, schema
from alibench.benchmarks.training import randomness
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Member
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stopping import Stopped
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.representation import CODE_ALONE
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.ali import ALI
from alibench.models.base import Batch, Model
from alibench.models.networks import Networks
from alibench.models.tables import FAMILIES
from tests.benchmarks.config.test_plugins import EXAMPLES, written

PLAIN, MODULES = EXAMPLES / "plain_torch.py", EXAMPLES / "own_modules.py"
CPU = torch.device("cpu")


def suite_with(path: Path) -> tuple[schema.Suite, str]:
    """Return the suite of digits with the one model of a file."""
    (kind,) = plugins.load(path)
    (suite,) = loading.load("digits", only=[kind.name])
    return suite, kind.name


def stir() -> None:
    """Move all global generators."""
    torch.rand(3)
    np.random.rand()  # noqa: NPY002
    random.random()


# ------------------------------------------------------------------------------------------------ the seed


@pytest.mark.parametrize("file", [PLAIN, MODULES])
def test_networks_of_plain_torch_start_from_the_seed(file: Path) -> None:
    suite, name = suite_with(file)
    built = []
    for seed in (0, 0, 1):
        stir()
        built.append(suite.build(name, seed).state_dict())
    assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])
    drawn = [key for key, value in built[0].items() if key.endswith("weight") and value.dim() > 1]
    assert not any(torch.equal(built[0][key], built[2][key]) for key in drawn)


def test_building_leaves_the_global_generator_as_it_was_and_our_weights_too() -> None:
    (suite,) = loading.load("digits", only=["ali"])
    before = torch.get_rng_state()
    found = suite.build("ali", 0).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    networks = Networks(FAMILIES["digits"](), (1, 8, 8), 1.0, suite.latent, generator(0, "weights"))
    expected = REGISTRY["ali"](networks).state_dict()  # type: ignore[call-arg]
    assert all(torch.equal(found[key], expected[key]) for key in expected)


class Stopping(Checkpoints):
    """Checkpoints of a training that stops after the n-th round of its life."""

    def __init__(self, folder: Path, stop: int) -> None:
        super().__init__(folder, {}, every=1e9)
        self.stop, self.rounds = stop, 0

    def due(self) -> bool:
        self.rounds += 1
        self.request.made = self.rounds == self.stop
        return super().due()


def trained(
    suite: schema.Suite, name: str, digits: Data, kept: Checkpoints | None = None
) -> dict[str, Tensor]:
    """Train for a while, beyond the updates after which gradients are recorded."""
    stir()
    model = suite.build(name, 0)
    recipe = Recipe(steps=60, batch=32, execution="graphs")
    train_together([Member(model, 0)], digits.train, recipe, CPU, checkpoints=kept)
    return model.state_dict()


@pytest.mark.parametrize("file", [PLAIN, MODULES])
def test_dropout_is_resumed_and_recorded_to_the_bit(
    file: Path, digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, name = suite_with(file)
    before = torch.get_rng_state()
    expected = trained(suite, name, digits)
    stir()
    for _ in range(2):
        with pytest.raises(Stopped):
            trained(suite, name, digits, Stopping(tmp_path, 25))
    found = trained(suite, name, digits, Stopping(tmp_path, 25))  # each life is recorded anew
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert "cannot be recorded" not in capsys.readouterr().err
    torch.set_rng_state(before)
    eager = suite.build(name, 0)
    train_together([Member(eager, 0)], digits.train, Recipe(steps=60, batch=32, execution="eager"), CPU)
    assert all(torch.equal(expected[key], value) for key, value in eager.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)  # the training has put it back


# -------------------- the contract


def test_the_example_passes_its_check_and_says_what_it_draws_and_shows() -> None:
    suite, name = suite_with(PLAIN)
    findings = {finding.check: finding for finding in checkup.examine(suite, name, steps=2)}
    assert [finding.what for finding in findings.values() if not finding.ok] == []
    assert "as nn.Dropout does: seeded, kept in checkpoints" in findings["noise"].what
    assert findings["metrics"].what == "classifiers get hidden 0 (256), last hidden layer (128), code (8)"


class Wide(nn.Module):
    """Says by `noise` that it draws z by its input."""

    noise = 3

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64 + 3, latent)

    def forward(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        z: Tensor = self.layer(torch.cat([x.flatten(1), x.new_zeros(len(x), 3) if eps is None else eps], 1))
        return z


def decoder() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))


def networks() -> Networks:
    return Networks(FAMILIES["digits"](), (1, 8, 8), 1.0, 4, generator(0, "weights"))


@pytest.mark.parametrize("kind", ["gaussian", "drawn", "code"])
def test_an_encoder_of_plain_torch_need_not_know_of_what_it_does_not_use(kind: str, digits: Data) -> None:
    class Own(ALI):
        stochastic = kind != "code"

        def __init__(self, networks: Networks) -> None:
            super().__init__(networks)
            encoders = {"gaussian": nn.Linear(64, 8), "code": nn.Linear(64, 4)}
            own = Wide(4) if kind == "drawn" else nn.Sequential(nn.Flatten(), encoders[kind])
            self.encoder, self.decoder = own, decoder()  # type: ignore[assignment]

    model, x = Own(networks()), as_float(digits.train.x[:5])
    widths = {name: draw.shape for name, draw in model.noise(5).items() if name in ("z", "eps", "xi")}
    assert widths == {"z": (5, 4), **({} if kind == "code" else {"eps": (5, 3 if kind == "drawn" else 4)})}
    batch = Batch(x, {name: draw(generator(0, "test")) for name, draw in model.noise(5).items()})
    losses = model.losses(model(batch, ("generator", "discriminator")))
    assert {player: loss.shape for player, loss in losses.items()} == {
        "generator": (5,),
        "discriminator": (5,),
    }
    assert model.encode(x, draw=True, rng=generator(0, "test")).shape == (5, 4)
    assert model.reconstruct(x).shape == x.shape
    assert list(model.features(x)) == ["code"]
    assert model.implicit == (kind == "drawn")
    assert not model.draws_x


def test_the_page_shows_the_examples_parts() -> None:
    page = (EXAMPLES.parent / "own-model.md").read_text()
    (block,) = (
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class PlainVAE" in block
    )
    text = PLAIN.read_text()
    for line in block.splitlines():
        shown = line.partition("#")[0].partition("(")[0].partition(":")[0].strip()
        assert shown in text


# what is written in place of a part -> what `check` says of it
STUMBLES = {
    "forward(x)": (
        "    def forward(self, x):\n        return self.decoder(self.encoder(x))\n",
        "mine.py, line 25: TypeError: Mine.forward() takes 2 positional arguments but 3 were given",
    ),
    "a tensor": (
        "    def forward(self, batch, learners):\n        return self.error(batch.x)\n",
        "in forward: forward returned a tensor (4,): return Terms(losses={player: loss of each sample})",
    ),
    "noise without a name": (
        "    def forward(self, batch, learners):\n        return Terms(losses={'ae': "
        "batch.noise['eps'].sum(1)})\n",
        "in forward: KeyError: 'eps'",
    ),
    "numbers as noise": (
        "    def noise(self, n):\n        return {'eps': torch.randn(n, 8)}\n",
        "in noise: noise returned a tensor (4, 8) for 'eps': return how it is drawn, as Draw('normal', (n, "
        "width))",
    ),
    "a lazy layer": (
        "    def __init__(self, networks):\n        super().__init__(networks)\n        self.encoder = "
        "nn.LazyLinear(8)\n",
        "mine.py, line 25: ValueError: Attempted to use an uninitialized parameter",
    ),
    "mean and deviation apart": (
        "    stochastic = True\n    def __init__(self, networks):\n        super().__init__(networks)\n"
        "        self.encoder = Two()\n    def forward(self, batch, learners):\n"
        "        return Terms(losses={'ae': self.posterior(batch.x)[0].sum(1)})\n",
        "the encoder gave a tuple: one tensor (4, 16) is needed, the mean and log sigma side by side: "
        "torch.cat(",
    ),
    "a mean alone": (
        "    stochastic = True\n    def forward(self, batch, learners):\n"
        "        return Terms(losses={'ae': self.posterior(batch.x)[0].sum(1)})\n",
        "the encoder gave a tensor (4, 8): one tensor (4, 16) is needed, the mean and log sigma side by side",
    ),
    "hidden layers in a list": (
        "    def __init__(self, networks):\n        super().__init__(networks)\n"
        "        self.encoder.hidden = lambda x: [x]\n",
        "hidden(x) of the encoder returned a list: {'name': (B, ...)} is needed",
    ),
}
SOUND = """import torch
from torch import nn
from alibench.models.base import Model, Terms

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 8)
    def forward(self, x):
        return self.layer(x.flatten(1)), self.layer(x.flatten(1))

class Sound(Model):
    name = title = source = "sound"
    generative = False
    players = {"ae": ("encoder", "decoder")}
    def __init__(self, networks):
        super().__init__(networks)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    def error(self, x):
        return (self.decoder(self.encoder(x)) - x).square().flatten(1).sum(1)
    def forward(self, batch, learners):
        return Terms(losses={"ae": self.error(batch.x)})
"""


def test_the_plainest_model_is_sound(tmp_path: Path) -> None:
    suite, name = suite_with(written(tmp_path, SOUND))
    findings = list(checkup.examine(suite, name, steps=2))
    assert [finding for finding in findings if not finding.ok] == []
    (metrics,) = (finding for finding in findings if finding.check == "metrics")
    assert metrics.what.startswith(
        f"classifiers get {CODE_ALONE} (8): a method hidden(x) of its encoder would give"
    )


@pytest.mark.parametrize("stumble", STUMBLES)
def test_what_a_newcomer_stumbles_over_is_said_with_its_remedy(stumble: str, tmp_path: Path) -> None:
    text, told = STUMBLES[stumble]
    path = written(tmp_path, f"{SOUND}\nclass Mine(Sound):\n    name = title = 'mine'\n{text}")
    plugins.load(path)
    (suite,) = loading.load("digits", ["recipe.steps=2"], only=["sound"])
    found = checkup.examine(replace(suite, models=["mine"]), "mine", steps=2)
    assert told in next(finding.what for finding in found if not finding.ok)


def test_the_global_generators_are_put_back() -> None:
    before = torch.get_rng_state()
    with randomness.seeded(3):
        first, kept = torch.rand(2), randomness.states(CPU)
        second = torch.rand(2)
        randomness.restore(kept, CPU)
        assert torch.equal(torch.rand(2), second)
    assert torch.equal(torch.get_rng_state(), before)
    with randomness.seeded(3):
        assert torch.equal(torch.rand(2), first)


def test_a_model_still_says_that_it_lacks_an_attribute() -> None:
    model: Model = REGISTRY["ali"](networks())  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="'ALI' object has no attribute 'nothing'"):
        model.nothing  # noqa: B018
