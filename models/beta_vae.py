"""beta-VAE (Higgins et al., ICLR 2017)."""

from alibench.models.base import Weight
from alibench.models.networks import Networks
from alibench.models.vae import VAE


class BetaVAE(VAE):
    """VAE with beta times the KL term: a bound on the likelihood at beta = 1 alone.

    The output variance follows its optimum as the VAE's does, so beta weighs the code against nats, not
    against pixels.
    """

    name = "beta-vae"
    title = "β-VAE"
    source = "Higgins et al. 2017, eq. 4"

    def __init__(self, networks: Networks, beta: Weight = 4.0) -> None:
        super().__init__(networks)
        self.beta = beta
