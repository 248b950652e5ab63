"""Adversarial games as pure functions of D's logits, written with softplus: log sigmoid(l) = -softplus(-l).

`q` and `p` are D's logits (B,) for encoder pairs, or real images, and for decoder pairs, or generated ones.
Each game returns its players' losses per sample (B,), to be minimised; D calls encoder pairs real.
"""

from torch import Tensor
from torch.nn.functional import relu, softplus


def realness(logits: Tensor) -> Tensor:
    """Return the logit (B,) of "one of K" against "generated", for D's logits (B, K).

    Salimans et al. 2016, section 5.
    A softmax over K + 1 classes has one logit to spare: that of class K+1, the generated, is 0. So
    D = Z / (Z + 1) = sigmoid(log Z), with Z = sum exp(l).
    """
    return logits.logsumexp(1)


def joint(q: Tensor, p: Tensor) -> dict[str, Tensor]:
    """ALI and BiGAN (Dumoulin et al. 2017, eq. 3 and the V' that follows it; Donahue et al. 2017, eq. 3).

    D maximises V = E_q[log D] + E_p[log(1 - D)]; the generator, encoder and decoder together, maximises the
    same value with the labels of both terms swapped, V' = E_q[log(1 - D)] + E_p[log D]. At l = 0 each loss is
    2 log 2.
    """
    return {"discriminator": softplus(-q) + softplus(p), "generator": softplus(q) + softplus(-p)}


def relativistic(q: Tensor, p: Tensor) -> dict[str, Tensor]:
    """R3GAN's relativistic game (Huang et al. 2024; the code): D maximises log sigmoid(q - p), the generator
    log sigmoid(p - q).

    Logits are compared by their place in the batch. At q = p each loss is log 2.
    """
    return {"discriminator": softplus(p - q), "generator": softplus(q - p)}


def hinge(q: Tensor, p: Tensor) -> dict[str, Tensor]:
    """BigBiGAN's game of one score (Donahue and Simonyan 2019): the hinge is in D's loss alone."""
    return {"discriminator": relu(1 - q) + relu(1 + p), "generator": q - p}


def non_saturating(q: Tensor, p: Tensor) -> dict[str, Tensor]:
    """GAN (Goodfellow et al. 2014, eq. 1; the generator maximises log D(G(z)) as in section 3)."""
    return {"discriminator": softplus(-q) + softplus(p), "decoder": softplus(-p)}
