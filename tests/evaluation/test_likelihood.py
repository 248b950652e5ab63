"""Likelihood: a linear model whose log p(x) is known, whole pixels' own code lengths, densities by scipy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from alibench.benchmarks.data import datasets
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.metrics import health, likelihood, measure
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models import REGISTRY
from alibench.models.base import Model
from alibench.models.vae import VAE
from tests.conftest import MODELS, build, networks
from tests.evaluation.conftest import cell, value

# W has orthogonal columns, so that the posterior's covariance is diagonal
W = np.array([[1.0, 0.5], [-1.0, 0.5], [0.0, 2.0], [0.5, 0.0], [0.5, 0.0]])
B, VARIANCE = np.array([1.0, -2.0, 0.0, 3.0, 0.5]), 0.3
EXACT = multivariate_normal(B, W @ W.T + VARIANCE * np.eye(5))


class Linear(VAE):
    """x = W z + B + noise. The proposal is the posterior, moved and widened in units of its deviation."""

    name = "linear"

    def __init__(self, moved: float = 0.0, widened: float = 1.0) -> None:
        nn.Module.__init__(self)
        self.latent, self.uniform = 2, False
        self.register_buffer("variance", torch.tensor(VARIANCE))
        self.encoder, self.decoder = nn.Linear(5, 4), nn.Linear(2, 5)

        covariance = np.linalg.inv(np.eye(2) + W.T @ W / VARIANCE)
        sigma = np.sqrt(np.diag(covariance))
        to_mean = covariance @ W.T / VARIANCE
        weight = np.concatenate([to_mean, np.zeros((2, 5))])
        bias = np.concatenate([moved * sigma - to_mean @ B, np.log(widened * sigma)])
        with torch.no_grad():
            for layer, values in ((self.encoder, (weight, bias)), (self.decoder, (W, B))):
                layer.weight.copy_(torch.from_numpy(values[0]))
                layer.bias.copy_(torch.from_numpy(values[1]))


class Constant(VAE):
    """A density of whole pixels, the same for all images: 256 P(v) on the pixel's 256th of [0, 1)."""

    log_p: Tensor

    def log_likelihood(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the sum over the pixels."""
        return (self.log_p[(256 * x).long()] + math.log(256)).flatten(1).sum(1)


@pytest.fixture(scope="module")
def linear() -> Data:
    """Points that the linear model draws."""
    x = torch.from_numpy(EXACT.rvs(4000, random_state=0)).float()
    train, held_out = Split(x[:3000], -torch.ones(3000).long()), Split(x[3000:], -torch.ones(1000).long())
    return Data("linear", train, held_out, held_out, classes=0)


def source(data: Data) -> ReferenceInput:
    return ReferenceInput(data, Settings(), 2, range(1), lambda seed: build("ali"))


# -------------------- a model whose likelihood is known


def test_by_the_exact_posterior_both_bounds_are_log_p(linear: Data) -> None:
    x = linear.test.x
    with torch.no_grad():
        weights = likelihood.log_weights(Linear(), x, generator(0, "z"))
    exact = EXACT.logpdf(x.double().numpy())
    for bound in likelihood.bounds(weights):
        np.testing.assert_allclose(bound.numpy(), exact, rtol=0, atol=1e-3)  # of each x

    rows = likelihood.measure(Subject(Linear(), linear, Settings(), 0))
    assert [row.metric for row in rows] == ["elbo", "iwae_bound"]
    for row in rows:
        assert row.value == pytest.approx(exact.mean(), abs=1e-3)
        assert (row.n, row.unit, row.protocol, row.split) == (1000, "nats", "64 draws", "test")


def test_by_another_proposal_the_bound_is_below_and_rises_with_the_draws(linear: Data) -> None:
    model, x = Linear(moved=2.0, widened=1.5), linear.test.x
    exact = torch.from_numpy(EXACT.logpdf(x.double().numpy()))
    gaps = {}
    for k in (1, 8, 64):
        with torch.no_grad():
            elbo, bound = likelihood.bounds(likelihood.log_weights(model, x, generator(k, "z"), k))
        gaps[k] = exact - bound
        assert bool((bound >= elbo - 1e-9).all())

    def certain(difference: Tensor) -> bool:
        return float(difference.mean()) > 4 * float(difference.std()) / math.sqrt(len(x))

    assert certain(gaps[64])
    assert certain(gaps[8] - gaps[64])
    assert certain(gaps[1] - gaps[8])
    # with one draw the gap is KL(q || posterior), of two numbers
    kl = 2 * (0.5 * (1.5**2 + 2.0**2 - 1) - math.log(1.5))
    error = float(gaps[1].std()) / math.sqrt(len(x))
    assert float(gaps[1].mean()) == pytest.approx(kl, abs=4 * error)


def test_the_vaes_density_is_that_of_its_distributions(digits: Data) -> None:
    model = build("vae").eval()
    x = as_float(digits.test.x[:30])
    with torch.no_grad():
        mean, log_sigma = model.posterior(x)
        found = likelihood.bounds(likelihood.log_weights(model, x, generator(0, "z"), 3))
        rng, weights = generator(0, "z"), []
        for _ in range(3):
            z = mean + log_sigma.exp() * torch.randn(mean.shape, generator=rng)
            p_x = torch.distributions.Normal(model.decode(z).double(), model.variance.double().sqrt())
            p_z, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, log_sigma.exp())
            weights.append(
                p_x.log_prob(x.double()).flatten(1).sum(1) + (p_z.log_prob(z) - q.log_prob(z)).sum(1)
            )
    expected = torch.stack(weights, 1).double().numpy()
    np.testing.assert_allclose(found[0], expected.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found[1], logsumexp(expected, 1) - math.log(3), rtol=1e-5)


# -------------------- images


def test_bits_per_dimension_are_the_code_length_of_whole_pixels(digits: Data) -> None:
    """A density that is even within each 256th is a probability of whole pixels: no bound is lost."""
    pixels = digits.train.x.flatten().bincount(minlength=256) + 1.0
    p = (pixels / pixels.sum()).double().numpy()
    model = Constant(networks())
    model.log_p = torch.from_numpy(np.log(p)).float()
    # q(z|x) is the prior, so that every weight is the density itself
    with torch.no_grad():
        for parameter in model.encoder.stack.layers[-1].parameters():
            parameter.zero_()
    rows = likelihood.measure(Subject(model, digits, Settings(), 0))
    bits = -np.log2(p[digits.test.x.numpy()]).mean()
    assert value(rows, "bits_per_dim") == pytest.approx(bits, rel=1e-5)
    nats = 64 * math.log(2) * (8 - bits)  # of the density on [0, 1]
    assert value(rows, "elbo") == pytest.approx(nats, rel=1e-5)
    assert value(rows, "iwae_bound") == pytest.approx(nats, rel=1e-5)
    row = cell(rows, "bits_per_dim")
    assert (row.n, row.unit, row.protocol) == (355, "bits", "64 draws, uniformly dequantised")
    # even on [0, 1] a density of 1 costs the eight bits that a pixel has
    assert likelihood.bits_per_dim(0.0, 64) == 8


def test_noise_fills_each_pixels_256th() -> None:
    v = torch.arange(256).byte().repeat(400, 1)
    x = likelihood.dequantised(v, generator(0, "u")) * 256 - v
    assert 0 <= float(x.min()) < 0.01
    assert 0.99 < float(x.max()) <= 1
    assert float(x.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * v.numel()))
    points = torch.randn(3, 2)
    assert likelihood.dequantised(points, generator(0, "u")) is points


# -------------------- densities that are known exactly


def test_one_gaussian_by_scipy(linear: Data) -> None:
    x, train = (split.x.double().numpy() for split in (linear.test, linear.train))
    expected = multivariate_normal(train.mean(0), np.cov(train.T, bias=True)).logpdf(x)
    found = likelihood.gaussian(linear.train.x, linear.test.x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    (row,) = likelihood.references(source(linear))
    assert (row.metric, row.reference, row.n) == ("iwae_bound", "one Gaussian", 1000)
    assert row.value == pytest.approx(expected.mean())
    # as good as the truth, of which it is a fit
    assert row.value == pytest.approx(EXACT.logpdf(x).mean(), abs=0.02)


def test_one_gaussian_of_images_is_a_mean_over_their_noise(digits: Data) -> None:
    train, x = (split.x.flatten(1).double().numpy() for split in (digits.train, digits.test))
    covariance = (np.cov(train.T, bias=True) + np.eye(64) / 12) / 256**2
    density = multivariate_normal((train.mean(0) + 0.5) / 256, covariance)
    rng = np.random.RandomState(0)
    drawn = np.array([density.logpdf((x + rng.rand(*x.shape)) / 256).mean() for _ in range(60)])
    rows = likelihood.references(source(digits))
    found = value(rows, "iwae_bound")
    assert found == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(60))
    assert value(rows, "bits_per_dim") == pytest.approx(8 - found / (64 * math.log(2)))
    assert {row.protocol for row in rows} == {"exact density, uniformly dequantised"}


def test_a_mixtures_own_density(linear: Data) -> None:
    data = datasets.load("grid25_easy")
    assert data.mixture is not None
    x, centres, std = data.test.x[:1000].double().numpy(), data.mixture.centres.numpy(), data.mixture.std
    parts = [multivariate_normal(centre, std**2 * np.eye(2)).logpdf(x) for centre in centres]
    found = likelihood.of_mixture(data.test.x[:1000], data.mixture)
    np.testing.assert_allclose(found, logsumexp(parts, 0) - math.log(25), rtol=1e-5)
    rows = likelihood.references(source(data))
    own, fitted = (
        value(rows, "iwae_bound", reference=name) for name in ("the data's own density", "one Gaussian")
    )
    # minus the entropy of 25 Gaussians that are far apart
    assert own == pytest.approx(-math.log(25) - math.log(2 * math.pi * math.e * std**2), abs=0.1)
    assert own > fitted + 1


def test_a_covariance_that_cannot_be_fitted_is_refused(linear: Data, digits: Data) -> None:
    def reason(data: Data) -> str:
        rows = likelihood.references(source(data))
        assert {(row.value, row.status, row.reference) for row in rows} == {(None, "refused", "one Gaussian")}
        assert [row.metric for row in rows] == ["iwae_bound", "bits_per_dim"][: len(data.shape)]
        return rows[0].reason

    few = replace(linear, train=Split(linear.train.x[:19], linear.train.y[:19]))
    told = "20 train samples are needed for the covariance of 5 numbers, it sees 19"
    assert reason(few) == told
    for dependent in (linear.train.x[:, 1] - 3 * linear.train.x[:, 2], torch.full((3000,), 7.0)):
        x = torch.cat([linear.train.x[:, 1:], dependent[:, None]], 1)
        followed = replace(linear, train=Split(x, linear.train.y))
        assert reason(followed) == "a number of x follows from others: its density has no bound"
    pictures = replace(digits, train=Split(digits.train.x[:255], digits.train.y[:255]))
    rows = likelihood.references(source(pictures))
    assert [(row.metric, row.status) for row in rows] == [
        ("iwae_bound", "refused"),
        ("bits_per_dim", "refused"),
    ]


# -------------------- every model


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_numbers_or_a_reason(name: str, digits: Data) -> None:
    few = replace(digits, test=Split(digits.test.x[:20], digits.test.y[:20]))
    rows = likelihood.measure(Subject(build(name), few, Settings(), 0))
    assert [row.metric for row in rows] == ["elbo", "iwae_bound", "bits_per_dim"]
    if not REGISTRY[name].likelihood:
        assert {(row.status, row.reason) for row in rows} == {("not applicable", "it has no likelihood")}
        return
    assert value(rows, "elbo") < value(rows, "iwae_bound")
    assert value(rows, "bits_per_dim") == likelihood.bits_per_dim(value(rows, "iwae_bound"), 64)


def without(model: Model, **said: object) -> str:
    """Return the reason why a model of points with other properties has no bound."""
    for attribute, other in said.items():
        setattr(model, attribute, other)
    (reason,) = {
        row.reason for row in likelihood.measure(Subject(model, datasets.load("grid25"), Settings(), 0))
    }
    return reason


def test_models_without_the_bound_say_why() -> None:
    # by the encoder of ALI's toy q(z|x) is drawn, by the decoder of ALICE's toy x is
    assert without(REGISTRY["avb"](networks("toy", 2))) == "q(z|x) has no density, which the bound needs"
    vae = REGISTRY["vae"](networks("alice_toy", 2))
    assert without(vae) == "the decoder draws x by its input, so p(x|z) has no density"
    assert without(Linear(), stochastic=False) == "q(z|x) has no density, which the bound needs"
    assert without(Linear(), inference="none") == "it has no encoder, which the bound draws codes by"
    assert without(Linear(), uniform=True) == "the prior is uniform, and q(z|x) reaches out of it"
    told = "its networks are told the labels, so the bound would be on log p(x|y)"
    assert without(Linear(), conditional=True) == told


def test_densities_that_are_not_finite_are_refused(linear: Data) -> None:
    x = linear.test.x.clone()
    x[3], x[8] = float("nan"), 1e30
    broken = replace(linear, test=Split(x, linear.test.y))
    rows = likelihood.measure(Subject(Linear(), broken, Settings(), 0))
    told = ("refused", "log densities of 2 of 1000 are not finite")
    assert [(row.status, row.reason) for row in rows] == [told, told]


def test_other_numbers_and_the_weights_stay_as_they_are(digits: Data) -> None:
    settings = Settings(resamples=2)
    alone = measure(Subject(build("avb"), digits, settings, 0), ["reconstruction"])
    model = build("avb")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    rows = measure(Subject(model, digits, settings, 0), ["likelihood", "reconstruction"])
    assert [row for row in rows if row.metric not in ("elbo", "iwae_bound", "bits_per_dim")] == alone
    # codes are drawn anew
    first, second = (value(rows, "elbo", draw=draw) for draw in (0, 1))
    assert first != second
    # AVB's variance follows the error in training alone
    health.logits(Subject(model, digits, settings, 0))
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
