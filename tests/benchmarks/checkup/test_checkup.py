"""`alibench check` passes models that are what the contract asks for, and finds each planted defect where it
is.
"""

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.checkup.case import Case
from alibench.benchmarks.checkup.checkup import CheckResult
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import blame, loading, plugins, schema
from alibench.models import REGISTRY
from tests.benchmarks.config.test_plugins import ELSEWHERE, OWN, written

HEAD = """import os
import random

import numpy as np
import torch
from torch import nn
from alibench.models.bigan import BiGAN
from alibench.models.base import Phase, Terms

class Mine(BiGAN):
    name, title, source = "mine", "Mine", "me"
"""
FIRST = HEAD.count("\n") + 1  # line of what follows

# defect -> (what is added to a sound model, the check that finds it, the line within, what is said)
DEFECTS = {
    "a parameter that nobody owns": (
        "    def __init__(self, networks):\n        super().__init__(networks)\n        self.extra = "
        "nn.Linear(3, 3)\n",
        ("parameters", 0, "in __init__: no player owns extra.weight, extra.bias"),
    ),
    "a parameter of two players": (
        "    players = {'generator': ('encoder', 'decoder'), 'discriminator': ('discriminator', "
        "'decoder')}\n",
        ("owners", None, "have two owners, decoder of 'generator' and decoder of 'discriminator'"),
    ),
    "a player without a network": (
        "    players = {**BiGAN.players, 'other': ('nothing',)}\n",
        ("players", None, "player 'other' owns 'nothing', and the model has no such network"),
    ),
    "a phase without its player": (
        "    @property\n    def phases(self):\n        return (Phase('game', (('generator',),)),)\n",
        ("players", None, "player 'discriminator' moves in no phase"),
    ),
    "a player without a loss": (
        "    def game(self, logits, y=None):\n        return {'discriminator': super().game(logits, "
        "y)['discriminator']}\n",
        (
            "losses",
            0,
            "in game: phase 'game' gives losses of discriminator, in it learn generator, discriminator: ",
        ),
    ),
    "a loss that is a mean": (
        "    def game(self, logits, y=None):\n        return {k: v.mean() for k, v in super().game(logits, "
        "y).items()}\n",
        ("losses", 0, "in game: the loss of 'discriminator' has shape (), (16,) is expected"),
    ),
    "a parameter that no loss depends on": (
        "    def __init__(self, networks):\n        super().__init__(networks)\n"
        "        self.decoder.extra = nn.Parameter(torch.zeros(3))\n",
        ("rounds", None, "the loss of 'generator' gives no gradient to decoder.extra"),
    ),
    "a network whose gradient is cut off": (
        "    def infer(self, x, eps, y=None):\n        return 0 * super().infer(x, eps, y) + 1\n",
        ("gradients", None, "the loss of 'generator' gives no gradient to encoder.stack.layers.0.op.weight"),
    ),
    "first weights by numpy": (
        "    def __init__(self, networks):\n        super().__init__(networks)\n"
        "        self.encoder.stack.layers[0].op.weight.data += float(np.random.rand())\n",
        (
            "builds",
            0,
            "in __init__: two models that were built from one seed differ in "
            "encoder.stack.layers.0.op.weight",
        ),
    ),
    "noise of numpy inside forward": (
        "    def forward(self, batch, learners):\n        terms = super().forward(batch, learners)\n"
        "        return Terms(terms.pairs, {k: v + float(np.random.rand()) for k, v in "
        "terms.logits.items()})\n",
        ("noise", 0, "in forward: two passes over one batch give 'generator' two losses"),
    ),
    "dropout that never ends": (
        "    def posterior(self, x, y=None):\n        return nn.functional.dropout(super().posterior(x, "
        "y)[0], 0.5), None\n",
        ("codes", 0, "nn.Dropout, or as F.dropout(..., training=self.training)"),
    ),
    "a training that diverges": (
        "    def game(self, logits, y=None):\n        return {k: 1e37 * v for k, v in super().game(logits, "
        "y).items()}\n",
        ("training", None, "diverged: not finite in phase 'game'"),
    ),
    "state outside of state_dict": (
        "    rounds = 0\n    def forward(self, batch, learners):\n        self.rounds += 1\n"
        "        terms = super().forward(batch, learners)\n"
        "        return Terms(terms.pairs, {k: v * self.rounds for k, v in terms.logits.items()})\n",
        ("stop and resume", 1, "in forward: a training that is stopped and resumed ends at other numbers"),
    ),
    "samples in [-1, 1]": (
        "    def decode(self, z, rng=None, y=None):\n        return 2 * super().decode(z, rng, y) - 1\n",
        ("samples", 0, "in decode: samples: images lie outside [0, 1]: from -"),
    ),
    "samples by no generator": (
        "    def prior(self, n, rng):\n        return torch.rand(n, self.latent)\n",
        ("samples", 0, "in prior: the same generator gives other samples"),
    ),
    "samples that are all the same": (
        "    def prior(self, n, rng):\n        return torch.zeros(n, self.latent)\n",
        ("samples", 0, "in prior: all samples are the same"),
    ),
    "samples that are not those that are measured": (
        "    def sample(self, n, rng, y=None):\n        return torch.rand(n, 1, 8, 8, generator=rng)\n",
        ("samples", 0, "in sample: sample gives others than generate"),
    ),
    "an encoder that ignores x": (
        "    def posterior(self, x, y=None):\n        return 0 * super().posterior(x, y)[0] + 1, None\n",
        ("codes", 0, "in posterior: every x has the same code: the encoder ignores x"),
    ),
    "features that are no vectors": (
        "    def features(self, x):\n        return {'code': x}\n",
        (
            "metrics",
            0,
            "in features: features 'code alone' come as a tensor (40, 1, 8, 8): (40, F) is expected",
        ),
    ),
    "weights that are not all": (
        "    gain = 1.0\n    def conclude(self, batches, rng):\n        self.gain = 0.5\n"
        "    def decode(self, z, rng=None, y=None):\n        return self.gain * super().decode(z, rng, y)\n",
        ("weights", None, "a new object with these weights gives other samples or codes"),
    ),
}


@functools.cache
def suite_of(name: str) -> schema.Suite:
    (suite,) = loading.load(name)
    return suite


def examined(path: Path, suite: str = "digits") -> list[CheckResult]:
    (kind,) = plugins.load(path, complete=False)
    return list(checkup.examine(replace(suite_of(suite), models=[kind.name]), kind.name, steps=2))


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_by_its_check_and_in_its_line(defect: str, tmp_path: Path) -> None:
    text, (check, line, told) = DEFECTS[defect]
    wrong = [finding for finding in examined(written(tmp_path, HEAD + text)) if not finding.ok]
    found = next(finding for finding in wrong if finding.check == check)
    assert told in found.what
    if line is not None:
        assert f"mine.py, line {FIRST + line}, " in found.what
    assert {finding.check for finding in wrong} <= {
        check,
        "reconstructions",
        "gradients",
        "codes",
    }  # what comes of it


@pytest.mark.parametrize("suite", ["digits", "grid25_easy"])
def test_a_sound_model_passes(suite: str, tmp_path: Path) -> None:
    findings = examined(written(tmp_path, HEAD), suite)
    assert [finding for finding in findings if not finding.ok] == []
    assert {finding.check for finding in findings} >= {check for _, (check, *_) in DEFECTS.values()}


@pytest.mark.parametrize("name", ["gan-posthoc", "vae", "ssali", "cali", "ae"])
def test_models_of_every_kind_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # two phases, a likelihood and state beside the weights, few labels, labels on all, no samples
    monkeypatch.setitem(blame.PLACES, REGISTRY[name], name)
    suite = replace(suite_of("digits"), models=[name])
    assert [finding for finding in checkup.examine(suite, name, 2) if not finding.ok] == []


DENSITIES = {
    "draws by the variance for the deviation": (
        "    def observe(self, x, rng):\n"
        "        return x + self.variance * torch.randn(x.shape, generator=rng)\n",
        (
            "mine.py, line 7, in observe: observe does not draw from the density that log_likelihood gives: "
            "if that is normal, the draws' variance is 0.0"
        ),
    ),
    "a mean in the place of a sum": (
        "    def log_likelihood(self, x, mean):\n"
        "        return super().log_likelihood(x, mean) / x[0].numel()\n",
        "the draws' variance is 0.015",
    ),
    "a number a pixel": (
        "    def log_likelihood(self, x, mean):\n        return -(x - mean).square()\n",
        "in log_likelihood: log densities come as a tensor (",
    ),
    "none": (
        "    log_likelihood = Model.log_likelihood\n",
        "NotImplementedError: mine has no density of x around its mean (in log_likelihood, models",
    ),
}


@pytest.mark.parametrize("defect", DENSITIES)
def test_a_density_that_is_not_that_of_the_draws_is_found(defect: str, tmp_path: Path) -> None:
    text, told = DENSITIES[defect]
    head = "import torch\nfrom alibench.models.base import Model\nfrom alibench.models.vae import VAE\n"
    head += "class Mine(VAE):\n    name, title, source = 'mine', 'Mine', 'me'\n\n"
    plugins.load(written(tmp_path, head + text), complete=False)
    case = Case(replace(suite_of("digits"), models=["mine"]), "mine", steps=2)
    (check,) = (check for check in checkup.USE if check.name == "metrics")
    found = checkup._result(case, check)
    assert found is not None
    assert not found.ok
    assert told in found.what


def test_what_was_trained_elsewhere_is_checked_where_it_can_be(tmp_path: Path) -> None:
    findings = examined(ELSEWHERE)
    assert [finding for finding in findings if not finding.ok] == []
    assert [f.check for f in findings] == [
        "declares",
        "builds",
        "samples",
        "codes",
        "reconstructions",
        "metrics",
    ]
    text = (
        "import torch\nclass Mine:\n    name = 'mine'\n"
        "    def sample(self, n):\n        return torch.rand(n, 1, 8, 8)\n"
    )
    (wrong,) = (finding for finding in examined(written(tmp_path, text)) if not finding.ok)
    assert "mine.py, line 4, in sample: the same generator gives other samples" in wrong.what


def test_the_command_says_each_check_in_a_line_and_all_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(OWN), "--steps", "2"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0] == "lsali, in suite 'digits'"
    assert all(line.startswith("  ok       ") for line in lines[1:])
    assert last == f"{len(lines) - 1} checks, all ok"
    path = written(
        tmp_path, HEAD.replace('"Mine"', "None") + "\nclass Sound(Mine):\n    name = title = 'sound'\n"
    )
    assert main(["check", str(path), "--models", "mine", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["checks"]
    assert finding.keys() == {"model", "check", "ok", "what"}
    assert (finding["check"], finding["ok"]) == ("declares", False)
    assert "write in it: title = '...'" in finding["what"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{nowhere}"], "cannot be read (No such file or directory): name a Python file"),
        (["{own}", "--steps", "0"], "--steps 0: at least one step is needed"),
        (["{own}", "--models", "lsal"], "defines no model 'lsal'; did you mean 'lsali'?"),
        (["{own}", "--suite", "quick"], "'quick' is a collection: name one of grid25_easy, digits"),
        (["{own}", "--suite", "digit"], "did you mean 'digits'?"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"own": OWN, "nowhere": tmp_path / "nowhere.py"}
    assert main(["check", *(argument.format(**places) for argument in arguments)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message


def test_a_suite_that_cannot_have_the_model_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, HEAD + "    semi_supervised = True\n")
    assert main(["check", str(path), "--suite", "grid25_easy", "--steps", "1"]) == 2
    assert "name another --suite than 'grid25_easy'" in capsys.readouterr().err
