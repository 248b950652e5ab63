"""The inception score's formula with a known mixture's exact posterior in place of a classifier's.

ALICE (Li et al. 2017) scores its toy by "ICP", the same formula with a classifier fitted to the five
components. The exact posterior needs no fitting; the score is at most the number of components, and like the
original it asks only that samples are told apart and spread evenly: it does not see how far they are from the
data.
"""

import torch
from torch import Tensor

from alibench.evaluation.data import Data, Mixture
from alibench.evaluation.subject import Baseline, Column, Measurement, Settings, Subject, not_sampled

COLUMNS = (Column("mixture_score", "mixture score", "higher", 2),)


def refuses(data: Data, settings: Settings) -> str:
    """Only a known mixture has a posterior."""
    return "" if data.mixture else f"data set '{data.name}' is no known mixture"


def score(samples: Tensor, mixture: Mixture) -> float:
    """Return exp(E_x KL(p(k|x) || p(k))) over samples (N, D), p(k) the mean of p(k|x)."""
    squares = torch.cdist(samples.double(), mixture.centres.double()).square()
    posterior = torch.log_softmax(-squares / (2 * mixture.std**2), dim=1)
    marginal = posterior.exp().mean(0).clamp(min=1e-300).log()
    return float((posterior.exp() * (posterior - marginal)).sum(1).mean().exp())


def _measurement(samples: Tensor, mixture: Mixture | None, **options: str) -> Measurement:
    assert mixture is not None
    unit = f"at most {len(mixture.centres)}"
    found = score(samples, mixture)
    return Measurement("mixture_score", found, unit, len(samples), protocol="exact posterior", **options)  # type: ignore[arg-type]


def measure(subject: Subject) -> list[Measurement]:
    """Return the score of the model's samples."""
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    return [_measurement(subject.samples, subject.data.mixture)]


def references(baseline: Baseline) -> list[Measurement]:
    """Return the score of real held-out data."""
    real = baseline.held_out.x
    return [_measurement(real, baseline.data.mixture, reference="held-out data", split=baseline.split)]
