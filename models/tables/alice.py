"""ALICE's toy networks (Li et al. 2017; the released code)."""

from alibench.models.layers import Row
from alibench.models.networks import FILLED, Family


def toy() -> Family:
    """Two hidden layers of 256 ReLU each; encoder and decoder both draw by two numbers next to their input.

    How the first weights were drawn is not known; here uniform by fan-in.
    """
    hidden = Row("dense", 1, 1, 256, False, 0.0, "relu")
    return Family(
        shape=(2,),
        std=None,
        scaled=False,
        encoder_noise=2,
        decoder_noise=2,
        encoder=(hidden, hidden, Row("dense", 1, 1, FILLED)),
        decoder=(hidden, hidden, Row("dense", 1, 1, FILLED)),
        dx=(),
        dz=(),
        dxz=(hidden, hidden, Row("dense", 1, 1, 1)),
    )
