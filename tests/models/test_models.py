"""What every registered model must be, and what is particular to each."""

import math

import pytest
import torch

from alibench.benchmarks.data import datasets
from alibench.benchmarks.training.trainer import parameters
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import LOG_SIGMA
from alibench.models.layers import Row, Stack, Style, initialise
from tests.conftest import MODELS, batch_for, build, networks


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_owned_by_one_player(name: str) -> None:
    model = build(name)
    owned = [p for player in model.players for p in parameters(model, player)]
    assert sorted(map(id, owned)) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {player for phase in model.phases for group in phase.round for player in group} == set(
        model.players
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_a_learner_gets_a_gradient(name: str, digits: Data) -> None:
    model = build(name)
    batch = batch_for(model, as_float(digits.train.x[:20]))
    for phase in model.phases:
        for learners in phase.round:
            losses = model.losses(model(batch, learners))
            for player in learners:
                own = parameters(model, player)
                gradients = torch.autograd.grad(losses[player].mean(), own, retain_graph=True)
                assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)
                assert losses[player].shape == (20,)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dataset", ["digits", "grid25_easy"])
def test_use_gives_the_datas_shape_and_range(name: str, dataset: str) -> None:
    data, model = datasets.load(dataset), build(name, dataset=dataset).eval()
    x, y = as_float(data.test.x[:7]), data.test.y[:7]
    with torch.no_grad():
        samples = model.sample(7, generator(0, "test"), y)
        assert samples.shape == x.shape
        if data.images:
            assert samples.min() >= 0
            assert samples.max() <= 1
        if model.semi_supervised:
            assert model.classify(x).shape == (7, data.classes)
        if model.inference == "none":
            return
        codes = model.encode(x, y=y)
        assert model.reconstruct(x, y=y).shape == x.shape
        assert codes.shape == (7, 4)
        torch.testing.assert_close(model.reconstruct(x, y=y), model.decode(codes, y=y))
        if not model.conditional:
            assert all(layer.shape[0] == 7 and layer.dim() == 2 for layer in model.features(x).values())
            torch.testing.assert_close(model.features(x)["code"], codes)


def test_noise_is_all_the_randomness_of_an_update(digits: Data) -> None:
    for name in MODELS:
        model = build(name)
        batch = batch_for(model, as_float(digits.train.x[:20]))
        for phase in model.phases:
            torch.manual_seed(1)
            first = model.losses(model(batch, phase.round[0]))
            torch.manual_seed(2)
            second = model.losses(model(batch, phase.round[0]))
            for player in phase.round[0]:
                if not model.likelihood:  # its running variance moves with every batch
                    assert torch.equal(first[player], second[player])


@pytest.mark.parametrize("name", MODELS)
def test_same_generator_same_sample(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        first, again, other = (model.sample(5, generator(seed, "a"), torch.arange(5)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", [name for name in MODELS if REGISTRY[name].stochastic])
def test_reparametrisation_has_the_moments_of_the_posterior(name: str, digits: Data) -> None:
    model = build(name).eval()
    x, y = as_float(digits.test.x[:1]).expand(40_000, -1, -1, -1), digits.test.y[:1].expand(40_000)
    with torch.no_grad():
        mean, log_sigma = model.posterior(x[:1], y[:1])
        drawn = model.encode(x, draw=True, rng=generator(0, "test"), y=y)
    sigma = log_sigma.exp()[0]
    # five standard errors of a mean and of a deviation over 40,000 draws
    assert ((drawn.mean(0) - mean[0]).abs() < 5 * sigma / math.sqrt(40_000)).all()
    assert ((drawn.std(0) - sigma).abs() < 5 * sigma / math.sqrt(80_000)).all()
    z = (drawn - mean) / sigma
    assert torch.corrcoef(z.T).fill_diagonal_(0).abs().max() < 5 / math.sqrt(40_000)


def test_log_sigma_is_clamped(digits: Data) -> None:
    model = build("ali").eval()
    with torch.no_grad():
        model.encoder.stack.layers[-1].op.bias[4:] = torch.tensor([-50.0, 50.0, -50.0, 50.0])
        _, log_sigma = model.posterior(as_float(digits.test.x[:3]))
    assert log_sigma.tolist() == [[LOG_SIGMA[0], LOG_SIGMA[1]] * 2] * 3


@pytest.mark.parametrize(
    "name", [name for name in MODELS if not REGISTRY[name].stochastic and REGISTRY[name].inference != "none"]
)
def test_a_deterministic_encoder_ignores_the_draw(name: str, digits: Data) -> None:
    model, x = build(name).eval(), as_float(digits.test.x[:3])
    with torch.no_grad():
        assert torch.equal(model.encode(x, draw=True, rng=generator(0, "a")), model.encode(x))


def test_bigan_is_ali_without_the_encoders_noise(digits: Data) -> None:
    ali, bigan = build("ali"), build("bigan")
    own = ali.state_dict()
    for key, value in bigan.state_dict().items():
        # ALI's encoder emits mean and log sigma: BiGAN's has the first half
        value.copy_(own[key][: len(value)] if own[key].shape != value.shape else own[key])
    batch = batch_for(ali, as_float(digits.train.x[:20]))
    batch.noise["eps"].zero_()
    for player, loss in ali.losses(ali(batch, ("generator",))).items():
        torch.testing.assert_close(bigan.losses(bigan(batch, ("generator",)))[player], loss)


def test_gans_regression_leaves_the_decoder_alone_and_sees_no_data() -> None:
    model = build("gan")
    batch = batch_for(model, torch.full((8, 1, 8, 8), float("nan")))
    terms = model(batch, ("encoder",))
    loss = model.losses(terms)["encoder"]
    z = batch.noise["z"]
    with torch.no_grad():
        expected = (z - model.encoder(model.decoder(z))).square().sum(1)
    torch.testing.assert_close(loss, expected)
    assert not torch.autograd.grad(loss.sum(), list(model.decoder.parameters()), allow_unused=True)[0]


def test_vae_bound_is_that_of_the_distributions(digits: Data) -> None:
    model = build("vae")
    x = as_float(digits.train.x[:20])
    batch = batch_for(model, x)
    loss = model.losses(model(batch, ("autoencoder",)))["autoencoder"]
    with torch.no_grad():
        mean, log_sigma = model.posterior(x)
        x_hat = model.decode(mean + log_sigma.exp() * batch.noise["eps"])
        likelihood = torch.distributions.Normal(x_hat, model.variance.sqrt()).log_prob(x).flatten(1).sum(1)
        posterior = torch.distributions.Normal(mean, log_sigma.exp())
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(loss, kl - likelihood, rtol=1e-4, atol=1e-3)


def test_vae_stores_the_variance_that_maximises_the_likelihood_of_train(digits: Data) -> None:
    model = build("vae").eval()
    x = as_float(digits.train.x)
    with torch.no_grad():
        model.conclude([x[:500], x[500:]], generator(0, "c"))
        x_hat = model.reconstruct(x, draw=True, rng=generator(0, "c"))

        def likelihood(variance: float) -> float:
            return float(torch.distributions.Normal(x_hat, variance**0.5).log_prob(x).double().mean())

        best = float(model.variance)
        assert likelihood(best) > max(likelihood(best * 0.95), likelihood(best * 1.05))
        noise = model.observe(x_hat, generator(1, "o")) - x_hat
        assert noise.std().item() == pytest.approx(best**0.5, rel=0.02)


@pytest.mark.parametrize("op", ["conv", "convT", "dense"])
def test_first_weights_keep_the_scale_of_the_signal(op: str) -> None:
    # uniform with variance 1 / (3 fan-in): unit inputs leave a linear layer with variance 1/3
    row = Row("dense", 1, 1, 500) if op == "dense" else Row("convT" if op == "convT" else "conv", 4, 2, 40)
    stack = Stack("s", [row], (100,) if op == "dense" else (50, 9, 9), Style())
    initialise(stack, generator(0, "weights"), None)
    with torch.no_grad():
        h = stack(torch.randn(50, *stack.shape, generator=generator(0, "test")))
    # the border of a transposed convolution sees fewer inputs
    inner = h[..., 2:-2, 2:-2] if op == "convT" else h
    assert inner.var().item() == pytest.approx(1 / 3, rel=0.1)


def test_first_biases_go_with_the_weights() -> None:
    dense = Stack("s", [Row("dense", 1, 1, 5000)], (25,), Style())
    for std, weights, biases in ((None, 0.2 / 3**0.5, 0.2 / 3**0.5), (0.02, 0.02, 0.0)):
        initialise(dense, generator(0, "weights"), std)
        op = dense.layers[0].op
        assert op.weight.std().item() == pytest.approx(weights, rel=0.05)
        assert op.bias.std().item() == pytest.approx(biases, rel=0.05)


@pytest.mark.parametrize("family", ["images28", "bigan_mnist", "cifar10_quarter"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_from_pictures_of_the_usual_sizes(name: str, family: str) -> None:
    """Whatever family of networks a suite of pictures names: all losses are numbers, samples are pictures."""
    made = networks(family, 16, labels=10)
    model, shape = REGISTRY[name](made), made.shape
    batch = batch_for(model, torch.rand(4, *shape, generator=generator(0, "test")))
    for phase in model.phases:
        for learners in phase.round:
            losses = model.losses(model(batch, learners))
            assert all(bool(losses[player].isfinite().all()) for player in learners)
    with torch.no_grad():
        assert model.eval().sample(2, generator(0, "test"), torch.arange(2)).shape == (2, *shape)
