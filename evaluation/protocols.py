"""The ways in which a measure is taken: keys, which are stored and looked up, and the words for them.

A row's `protocol` is a key, or several joined by ", ": "C by validation, standardised". Rows, baselines and
suites hold keys, so a key never changes. Titles of columns have PROSE, which can be worded anew.
"""

# raised when a number keeps its name and protocol but means something else: old baselines are refused then
VERSION = 1

# Reconstruction and health: whose code is decoded.
MEAN_CODE = "mean code"
DRAWN_CODE = "drawn code"
OTHER_CODE = "against the code of another x"

# Fidelity: the number of images, the estimate.
ALL_IMAGES = "n"
HALF_THE_IMAGES = "n/2"
EXTRAPOLATED = "linear in 1/n"
KERNEL = "unbiased MMD², cubic kernel"
GAUSSIAN_KERNEL = "biased MMD², Gaussian kernel"
ONE_SPLIT = "one split"
RAW_DATA = "raw data"  # in place of an extractor's features

# Modes of a known mixture.
THREE_SIGMA = "3 sigma"
ANY_OF_2500 = "3 sigma, any of 2,500"
NEAREST_CENTRE = "nearest centre"
EXACT_POSTERIOR = "exact posterior"

# Likelihood: what the density is taken of, and by what.
DEQUANTISED = "uniformly dequantised"
EXACT_DENSITY = "exact density"

# Classifiers on features: what a hyper-parameter is chosen by, and on which features.
C_BY_VALIDATION = "C by validation"
C_BY_LABELS = "C by labels"
PENALTY_BY_VALIDATION = "penalty by validation"
LAST_HIDDEN = "last hidden layer"
CODE_ALONE = "code alone"  # of a model that shows no hidden layer
STANDARDISED = "standardised"

# Classes that a model learns itself.
K_PLUS_ONE = "K+1 classes"

# The words for a key in titles; the key itself where there is no entry.
PROSE: dict[str, str] = {C_BY_LABELS: "C by the labels"}


def neighbours(k: int) -> str:
    """Return the key of a measure by the k nearest neighbours."""
    return f"k = {k}"


def penalty_by(labels: int) -> str:
    """Return the key of a probe whose penalty was chosen by validation on part of its labels."""
    return f"{PENALTY_BY_VALIDATION} on {labels} labels"


def draws(k: int) -> str:
    """Return the key of a measure by k draws of the code for each x."""
    return f"{k} draws"


def joined(*parts: str) -> str:
    """Return a protocol of several keys, without the empty ones."""
    return ", ".join(filter(None, parts))


def prose(protocol: str) -> str:
    """Return the words for a protocol, as titles have them."""
    return ", ".join(PROSE.get(part, part) for part in protocol.split(", "))
