"""Reconstruction of held-out data, beside what needs no learning: the mean, the class mean, PCA.

Images: mean squared error per pixel, in [0, 1] units; PSNR and SSIM, means over images; LPIPS where its
weights are there. Points: squared distance, summed over the coordinates, in the data's own units. Through the
mean code, and through one drawn from q(z|x) where the encoder draws (ALI's figures use drawn codes). The
latent error is the other cycle, z to x and back.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from torch import Tensor

from alibench.evaluation.data import BATCH, Data, as_float, unfit
from alibench.evaluation.features import perceptual
from alibench.evaluation.subject import Baseline, Column, Measurement, Settings, Subject

FITTED = 2**26  # numbers at most, in train samples, that a trivial reconstructor is fitted on
CPU = torch.device("cpu")
SSIM_SIZE = 6  # pixels that its window needs on each side

COLUMNS = (
    Column("reconstruction_error", "reconstruction error", "lower", 4),
    Column("psnr", "PSNR, dB", "higher", 2),
    Column("ssim", "SSIM", "higher", 3),
    Column("lpips", "LPIPS", "lower", 3),
    Column("latent_error", "latent error, z − E(G(z))", "lower", 3),
    Column("posterior_sigma", "posterior σ", "", 3),
)


def refuses(data: Data, settings: Settings) -> str:
    """Any data can be reconstructed."""
    return ""


def _by_batch(
    x: Tensor,
    x_hat: Tensor,
    function: Callable[[Tensor, Tensor], Tensor],
    size: int = BATCH,
    device: torch.device = CPU,
) -> Tensor:
    """Return function(x, x_hat) (N,) of float tensors, batch by batch on a device; the result is on the CPU."""
    parts = zip(x.split(size), x_hat.split(size), strict=True)
    return torch.cat(
        [function(as_float(part.to(device)), part_hat.to(device)).cpu() for part, part_hat in parts]
    )


def errors(x: Tensor, x_hat: Tensor, images: bool) -> Tensor:
    """Return squared errors (N,), mean over an image's pixels or sum over a point's coordinates; x as the
    data hold it.
    """

    def squares(part: Tensor, part_hat: Tensor) -> Tensor:
        difference = (part.double() - part_hat.double()).square().flatten(1)
        return difference.mean(1) if images else difference.sum(1)

    return _by_batch(x, x_hat, squares)


def psnr(errors: Tensor) -> Tensor:
    """Return peak signal-to-noise ratios (N,) in dB of images in [0, 1] with mean squared errors (N,)."""
    return -10 * errors.log10()


def ssim(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return structural similarities (N,) of images in [0, 1] (Wang et al. 2004, eq. 13: 11x11 Gaussian
    window, sigma 1.5).

    Mean over all pixels, images mirrored at their edges, and over channels.
    """

    def blurred(pictures: np.ndarray) -> np.ndarray:
        return gaussian_filter(pictures, 1.5, radius=5, mode="mirror", axes=(2, 3))

    def similarity(part: Tensor, part_hat: Tensor) -> Tensor:
        a, b = part.double().numpy(), part_hat.double().numpy()
        mean_a, mean_b = blurred(a), blurred(b)
        variances = blurred(a * a) - mean_a**2 + blurred(b * b) - mean_b**2
        covariance = blurred(a * b) - mean_a * mean_b
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        return torch.from_numpy(
            (luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean((1, 2, 3))
        )

    return _by_batch(x, x_hat, similarity)


def _compared(
    data: Data,
    settings: Settings,
    x: Tensor,
    x_hat: Tensor,
    device: torch.device,
    row: Callable[..., Measurement],
) -> list[Measurement]:
    """Return the measures of one set of reconstructions; `row` makes a Measurement of what they share.

    The device is LPIPS's alone: all else is quick on a CPU.
    """
    squares = errors(x, x_hat, data.images)
    unit = "per pixel, [0, 1]" if data.images else "squared distance"
    rows = [row("reconstruction_error", float(squares.mean()), unit)]
    if not data.images:
        return rows
    if squares.min() > 0:
        rows.append(row("psnr", float(psnr(squares).mean()), "dB"))
    else:
        rows.append(
            row(
                "psnr",
                None,
                "dB",
                status="refused",
                reason="an image is reconstructed exactly: PSNR is infinite",
            )
        )
    if min(data.shape[1:]) >= SSIM_SIZE:
        rows.append(row("ssim", float(ssim(x, x_hat).mean())))
    else:
        reason = f"images are smaller than SSIM's window: {SSIM_SIZE} pixels are needed"
        rows.append(row("ssim", None, status="not applicable", reason=reason))
    if reason := perceptual.refuses(data, settings):
        return [*rows, row("lpips", None, status="not applicable", reason=reason)]
    distance = perceptual.load(settings).to(device)
    distances = _by_batch(x, x_hat, distance, perceptual.BATCH, device)
    return [*rows, row("lpips", float(distances.mean()), extractor=distance.identity)]


def _refused(data: Data, reason: str, row: Callable[..., Measurement]) -> list[Measurement]:
    """Return the empty cells of reconstructions that cannot be measured."""
    measures = ("reconstruction_error", "psnr", "ssim", "lpips")[: 4 if data.images else 1]
    return [row(metric, None, status="refused", reason=reason) for metric in measures]


def measure(subject: Subject) -> list[Measurement]:
    """Return errors through mean and drawn codes, the latent error, and the posterior's deviation (zero:
    noise is lost).
    """
    data, model, settings = subject.data, subject.model, subject.settings
    x = subject.held_out.x
    if model.inference == "none" or not model.inverts:
        reason = "it has no encoder" if model.inference == "none" else "it has no decoder"
        return [Measurement(c.metric, None, status="not applicable", reason=reason) for c in COLUMNS]
    deterministic = "" if model.stochastic or model.draws_x else "encoder and decoder are deterministic"
    no_mean = "the encoder draws by its input, so its mean code has no closed form" if model.implicit else ""

    def rows(x_hat: Callable[[], Tensor], protocol: str, reason: str) -> list[Measurement]:
        row = partial(Measurement, n=len(x), split=subject.split, protocol=protocol)
        if reason:
            return [row("reconstruction_error", None, status="not applicable", reason=reason)]
        reconstructed = x_hat()
        if bad := unfit(reconstructed, data.images):
            return _refused(data, bad, row)
        return _compared(data, settings, x, reconstructed, subject.device, row)

    found = [
        *rows(lambda: subject.reconstructions, "mean code", no_mean),
        *rows(lambda: subject.drawn_reconstructions, "drawn code", deterministic),
        _latent_error(subject, no_mean),
    ]
    if model.likelihood:
        row = partial(
            Measurement, n=len(x), split=subject.split, protocol="mean code", reference=subject.observed_name
        )
        found += _compared(data, settings, x, subject.observed_reconstructions, subject.device, row)
    sigma = subject.posterior_deviation
    if sigma is None:
        reason = "the encoder draws by its input" if no_mean else "the encoder is deterministic"
        return [*found, Measurement("posterior_sigma", None, status="not applicable", reason=reason)]
    return [*found, Measurement("posterior_sigma", sigma, n=len(x), split=subject.split)]


def _latent_error(subject: Subject, no_mean: str) -> Measurement:
    """Return |z - E(G(z))|, mean over the code's numbers and as many prior draws as there are samples."""
    reason = no_mean or ("" if subject.model.generative else "its codes follow no prior")
    if not reason and not subject.prior_codes.numel():
        reason = "it does not tell the codes of its samples"
    if reason:
        return Measurement("latent_error", None, status="not applicable", reason=reason)
    z, y, x = subject.prior_codes, subject.prior_labels, subject.samples
    z_hat = subject.batched(lambda x, y: subject.model.encode(x, y=y), x, y)
    value = float((z.double() - z_hat.double()).abs().mean())
    return Measurement("latent_error", value, "per number of the code", len(z), protocol="mean code")


def references(baseline: Baseline) -> list[Measurement]:
    """Return the trivial reconstructors: train mean, train mean of the true class, PCA at the models' latent
    size.

    Of a train split with more than FITTED numbers they see a fixed draw, and say so.
    """
    data, held_out, split = baseline.data, baseline.held_out, baseline.split
    seen, drawn = FITTED // data.train.x[0].numel(), torch.arange(len(data.train))
    part = ""
    if len(drawn) > seen:
        drawn = torch.from_numpy(np.random.RandomState(0).permutation(len(drawn))[:seen])
        part = f"of {seen} train images"
    x, x_train, y_train = as_float(held_out.x), as_float(data.train.x[drawn]), data.train.y[drawn]
    flat = x_train.flatten(1).double().numpy()
    pca = PCA(min(baseline.latent, *flat.shape), random_state=0).fit(flat)
    projected = pca.inverse_transform(pca.transform(x.flatten(1).double().numpy()))
    notes = {
        "mean": [part],
        "class mean": ["told the true class", part],
        "PCA": [f"{pca.n_components_} components", part],
    }

    def row(name: str) -> Callable[..., Measurement]:
        note = ", ".join(filter(None, notes[name]))
        return partial(
            Measurement, n=len(held_out), split=split, protocol="mean code", reference=name, note=note
        )

    candidates = {"mean": x_train.mean(0).expand_as(x)}
    rows = []
    if data.classes and (unseen := sorted(set(held_out.y.tolist()) - set(y_train.tolist()))):
        names = ", ".join(data.class_names[c] if data.class_names else str(c) for c in unseen)
        rows = _refused(data, f"train holds no sample of class {names}", row("class mean"))
    elif data.classes:
        by_class = x.new_empty(x.shape)
        for c in range(data.classes):
            by_class[held_out.y == c] = x_train[y_train == c].mean(0)
        candidates["class mean"] = by_class
    candidates["PCA"] = x.new_tensor(np.asarray(projected)).view_as(x)
    for name, x_hat in candidates.items():
        rows += _compared(data, baseline.settings, held_out.x, x_hat, baseline.device, row(name))
    return rows
