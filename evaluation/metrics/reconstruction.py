"""Reconstruction of held-out data, next to what needs no learning: the mean, the class mean, PCA.

Images: mean squared error per pixel, in [0, 1] units; PSNR and SSIM, means over images; LPIPS where its
weights are there. Points: squared distance, summed over the coordinates, in the data's own units. Through the
mean code, and through one drawn from q(z|x) where the encoder draws (ALI's figures use drawn codes). The
latent error is the other cycle, z to x and back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from torch import Tensor

from alibench.evaluation import protocols
from alibench.evaluation.data import BATCH, Data, as_float, unfit
from alibench.evaluation.features import perceptual
from alibench.evaluation.measurement import Column, Measurement, not_applicable, refused
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models.base import Model

FITTED = 2**26  # numbers at most, in train samples, that a trivial reconstructor is fitted on
CPU = torch.device("cpu")
OF_IMAGES = ("reconstruction_error", "psnr", "ssim", "lpips")  # points have the first alone
SSIM_SIZE = 6  # pixels that its window needs on each side
UNTOLD = "it does not tell the codes of its samples"  # the reason of an object with samples alone

COLUMNS = (
    Column("reconstruction_error", "reconstruction error", "lower", 4),
    Column("psnr", "PSNR, dB", "higher", 2),
    Column("ssim", "SSIM", "higher", 3),
    Column("lpips", "LPIPS", "lower", 3),
    Column("latent_error", "latent error, z − E(G(z))", "lower", 3),
    Column("posterior_sigma", "posterior σ", "", 3),
)


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Any data can be reconstructed."""
    return ""


def _by_batch(
    x: Tensor,
    x_hat: Tensor,
    function: Callable[[Tensor, Tensor], Tensor],
    size: int = BATCH,
    device: torch.device = CPU,
) -> Tensor:
    """Return function(x, x_hat) (N,), on the CPU, of float tensors, batch by batch on a device."""
    parts = zip(x.split(size), x_hat.split(size), strict=True)
    return torch.cat(
        [function(as_float(part.to(device)), part_hat.to(device)).cpu() for part, part_hat in parts]
    )


def errors(x: Tensor, x_hat: Tensor, images: bool) -> Tensor:
    """Return squared errors (N,) of x as the data hold it: mean over pixels, or sum over coordinates."""

    def squares(part: Tensor, part_hat: Tensor) -> Tensor:
        # exact to the last digits of a mean over millions of pixels
        difference = (part.double() - part_hat.double()).square().flatten(1)
        return difference.mean(1) if images else difference.sum(1)

    return _by_batch(x, x_hat, squares)


def psnr(errors: Tensor) -> Tensor:
    """Return peak signal-to-noise ratios (N,) in dB of images in [0, 1] with mean squared errors (N,)."""
    return -10 * errors.log10()


def ssim(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return structural similarities (N,) of images in [0, 1] (Wang et al. 2004, eq. 13).

    11x11 Gaussian window, sigma 1.5; mean over channels and all pixels, images mirrored at their edges.
    """

    def blurred(pictures: np.ndarray) -> np.ndarray:
        return gaussian_filter(pictures, 1.5, radius=5, mode="mirror", axes=(2, 3))

    def similarity(part: Tensor, part_hat: Tensor) -> Tensor:
        # means, variances and covariance within the window around each pixel
        a, b = part.double().numpy(), part_hat.double().numpy()
        mean_a, mean_b = blurred(a), blurred(b)
        variances = blurred(a * a) - mean_a**2 + blurred(b * b) - mean_b**2
        covariance = blurred(a * b) - mean_a * mean_b

        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        pixels = luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)
        return torch.from_numpy(pixels.mean((1, 2, 3)))

    return _by_batch(x, x_hat, similarity)


Fields = dict[str, Any]  # of a Measurement, which several have in common


@dataclass(frozen=True)
class BySample:
    """Measures of reconstructions, a number for each sample (N,), on the CPU; none where a row has none."""

    error: Tensor  # squared, as `errors` returns it
    psnr: Tensor | None = None
    ssim: Tensor | None = None
    lpips: Tensor | None = None
    extractor: str = ""  # of LPIPS


def _by_sample(source: Subject | ReferenceInput, x_hat: Tensor) -> BySample:
    """Return the measures of reconstructions of held-out data."""
    # what costs next to nothing
    x, images = source.held_out.x, source.data.images
    squares = errors(x, x_hat, images)
    if not images:
        return BySample(squares)
    decibels = psnr(squares) if squares.min() > 0 else None
    similarities = ssim(x, x_hat) if min(source.data.shape[1:]) >= SSIM_SIZE else None

    # the only measure that is slow on a CPU
    if perceptual.unsupported_reason(source.data, source.settings):
        return BySample(squares, decibels, similarities)
    distance = perceptual.load(source.settings).to(source.device)
    distances = _by_batch(x, x_hat, distance, perceptual.BATCH, source.device)
    return BySample(squares, decibels, similarities, distances, distance.identity)


def _compared(source: Subject | ReferenceInput, measures: BySample, fields: Fields) -> list[Measurement]:
    """Return the means over held-out data, each row with the fields."""
    images = source.data.images
    unit = "per pixel, [0, 1]" if images else "squared distance"
    rows = [Measurement("reconstruction_error", float(measures.error.mean()), unit, **fields)]
    if not images:
        return rows

    # a measure that cannot be made is a row with its reason
    if measures.psnr is not None:
        rows.append(Measurement("psnr", float(measures.psnr.mean()), "dB", **fields))
    else:
        rows += refused(["psnr"], "an image is reconstructed exactly: PSNR is infinite", unit="dB", **fields)

    if measures.ssim is not None:
        rows.append(Measurement("ssim", float(measures.ssim.mean()), **fields))
    else:
        reason = f"images are smaller than SSIM's window: {SSIM_SIZE} pixels are needed"
        rows += not_applicable(["ssim"], reason, **fields)

    if measures.lpips is None:
        reason = perceptual.unsupported_reason(source.data, source.settings)
        return rows + not_applicable(["lpips"], reason, **fields)
    mean = float(measures.lpips.mean())
    return [*rows, Measurement("lpips", mean, extractor=measures.extractor, **fields)]


def _refused(data: Data, reason: str, fields: Fields) -> list[Measurement]:
    """Return the empty cells of reconstructions that cannot be measured."""
    return refused(OF_IMAGES if data.images else OF_IMAGES[:1], reason, **fields)


def by_sample(subject: Subject) -> tuple[BySample | None, str]:
    """Return the measures of each held-out sample through its mean code, whose means the rows hold.

    None, and the reason, for a model that has no such row.
    """
    model = subject.model
    if reason := _no_reconstruction(model) or _no_mean_code(model):
        return None, reason
    if reason := unfit(subject.reconstructions, subject.data.images):
        return None, f"reconstructions cannot be measured: {reason}"
    return _once(subject, subject.reconstructions, protocols.MEAN_CODE), ""


def _once(subject: Subject, x_hat: Tensor, protocol: str) -> BySample:
    return subject.once(f"reconstructions, {protocol}", lambda: _by_sample(subject, x_hat))


def _no_reconstruction(model: Model) -> str:
    if model.inference == "none":
        return "it has no encoder"
    return "" if model.inverts else "it has no decoder"


def _no_mean_code(model: Model) -> str:
    return "the encoder draws by its input, so its mean code has no closed form" if model.implicit else ""


def measure(subject: Subject) -> list[Measurement]:
    """Return errors through mean and drawn codes, the latent error, and the posterior's deviation."""
    model, n = subject.model, len(subject.held_out)
    if reason := _no_reconstruction(model):
        return not_applicable(COLUMNS, reason)
    deterministic = "" if model.stochastic or model.draws_x else "encoder and decoder are deterministic"
    no_mean = _no_mean_code(model)

    def rows(x_hat: Callable[[], Tensor], protocol: str, reason: str) -> list[Measurement]:
        fields = {"n": n, "split": subject.split, "protocol": protocol}
        if reason:
            return not_applicable(["reconstruction_error"], reason, **fields)
        reconstructed = x_hat()
        if bad := unfit(reconstructed, subject.data.images):
            return _refused(subject.data, bad, fields)
        return _compared(subject, _once(subject, reconstructed, protocol), fields)

    # Called only where there is no reason against it: a model may be unable to.
    measured = [
        *rows(lambda: subject.reconstructions, protocols.MEAN_CODE, no_mean),
        *rows(lambda: subject.drawn_reconstructions, protocols.DRAWN_CODE, deterministic),
        *_latent_error(subject, no_mean),
    ]
    if model.likelihood:
        fields = {"n": n, "split": subject.split, "protocol": protocols.MEAN_CODE}
        fields["reference"] = subject.observed_name
        measured += _compared(subject, _by_sample(subject, subject.observed_reconstructions), fields)

    sigma = subject.posterior_deviation  # zero, if the encoder's noise is lost
    if sigma is None:
        reason = "the encoder draws by its input" if no_mean else "the encoder is deterministic"
        return measured + not_applicable(["posterior_sigma"], reason)
    return [*measured, Measurement("posterior_sigma", sigma, n=n, split=subject.split)]


def _latent_error(subject: Subject, no_mean: str) -> list[Measurement]:
    """Return |z - E(G(z))|, mean over the code's numbers and as many prior draws as there are samples."""
    reason = no_mean or ("" if subject.model.generative else "its codes follow no prior")
    if not reason and not subject.prior_codes.numel():
        reason = UNTOLD
    if reason:
        return not_applicable(["latent_error"], reason)

    # The samples are drawn already: x is the decoder's output for z.
    z, y, x = subject.prior_codes, subject.prior_labels, subject.samples
    z_hat = subject.batched(lambda x, y: subject.model.encode(x, y=y), x, y)
    value, unit = float((z.double() - z_hat.double()).abs().mean()), "per number of the code"
    return [Measurement("latent_error", value, unit, len(z), protocol=protocols.MEAN_CODE)]


def references(source: ReferenceInput) -> list[Measurement]:
    """Return trivial reconstructions: train mean, mean of the true class, PCA at the models' latent size.

    Of a train split with more than FITTED numbers they see a fixed draw, and say so.
    """
    # What they see of train.
    data, held_out = source.data, source.held_out
    most, seen = FITTED // data.train.x[0].numel(), torch.arange(len(data.train))
    part = ""
    if len(seen) > most:
        seen = torch.from_numpy(np.random.RandomState(0).permutation(len(seen))[:most])
        part = f"of {most} train images"
    x, x_train, y_train = as_float(held_out.x), as_float(data.train.x[seen]), data.train.y[seen]

    def fields(name: str, *notes: str) -> Fields:
        note = ", ".join(filter(None, (*notes, part)))
        row = {"n": len(held_out), "split": source.split, "protocol": protocols.MEAN_CODE}
        return {**row, "reference": name, "note": note}

    # The class mean, where train has every class of the scored split.
    rows: list[Measurement] = []
    by_class = None
    of_class = fields("class mean", "told the true class")
    if data.classes and (unseen := sorted(set(held_out.y.tolist()) - set(y_train.tolist()))):
        names = ", ".join(data.class_names[c] if data.class_names else str(c) for c in unseen)
        rows += _refused(data, f"train holds no sample of class {names}", of_class)
    elif data.classes:
        by_class = x.new_empty(x.shape)
        for c in range(data.classes):
            by_class[held_out.y == c] = x_train[y_train == c].mean(0)

    # As many components as the models' codes have numbers.
    flat = x_train.flatten(1).double().numpy()
    pca = PCA(min(source.latent, *flat.shape), random_state=0).fit(flat)
    projected = pca.inverse_transform(pca.transform(x.flatten(1).double().numpy()))

    # In the order of the tables.
    rows += _compared(source, _by_sample(source, x_train.mean(0).expand_as(x)), fields("mean"))
    if by_class is not None:
        rows += _compared(source, _by_sample(source, by_class), of_class)
    components = fields("PCA", f"{pca.n_components_} components")
    x_hat = x.new_tensor(np.asarray(projected)).view_as(x)
    return rows + _compared(source, _by_sample(source, x_hat), components)
