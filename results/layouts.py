"""The tables and their columns; a column's title and better direction are its metric's."""

from dataclasses import dataclass, replace

from alibench.evaluation.measurement import Column
from alibench.evaluation.metrics import COLUMNS
from alibench.evaluation.metrics.matching import CODES, PAIRS
from alibench.evaluation.protocols import C_BY_LABELS, C_BY_VALIDATION, DRAWN_CODE, MEAN_CODE, prose

BUDGET = (
    Column("updates_encoder", "updates of encoder", "", 0),
    Column("updates_decoder", "of decoder", "", 0),
    Column("updates_discriminator", "of discriminator", "", 0),
    Column("train_gflop", "training GFLOP", "", 0),
    Column("train_seconds", "training s", "", 1),
)
DRAWN_SETTINGS = (
    Column("drawn_lr", "learning rate", "", 6),
    Column("drawn_beta1", "β₁", "", 3),
    Column("drawn_std", "σ of first weights", "", 4),
)
CATALOGUE = COLUMNS | {column.metric: column for column in BUDGET}
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


@dataclass(frozen=True)
class Measure:
    """A metric by one protocol, under the metric's title or another: what a table's column shows.

    `derived` says what is computed of it: "error" is 100 - value; "over NAME" the paired difference to a
    reference; "spread" the deviation over label draws; "same labels" takes the draw that semi-supervised
    training had; "reasons" are in words, with the number of runs.
    """

    metric: str
    protocol: str = ""  # or the beginning of it; how features were scaled, say, may follow
    title: str = ""
    derived: str = ""


@dataclass(frozen=True)
class Table:
    """A table's name, caption and columns."""

    name: str
    caption: str
    measures: tuple[Measure, ...]
    needs: str = ""  # a metric without which there is no such table


def _plain(*metrics: str) -> tuple[Measure, ...]:
    return tuple(Measure(metric) for metric in metrics)


def _svm(protocol: str) -> tuple[Measure, ...]:
    by = prose(protocol)
    return (
        Measure("svm_accuracy", protocol, f"accuracy, {by}, %"),
        Measure("svm_accuracy", protocol, f"error, {by}, %", "error"),
        Measure("svm_accuracy", protocol, "− raw pixels", "over raw pixels"),
        Measure("svm_accuracy", protocol, "− untrained", "over untrained encoder"),
        Measure("svm_accuracy", protocol, "std over label draws", "spread"),
    )


def _against_references(metric: str, name: str) -> tuple[Measure, ...]:
    return (
        Measure(metric, title=f"{name}, %"),
        Measure(metric, title=f"{name} − raw pixels", derived="over raw pixels"),
        Measure(metric, title=f"{name} − untrained", derived="over untrained encoder"),
    )


OVERVIEW = Table(
    "overview",
    "The models at a glance. {facts}",
    (
        *_plain("modes_3sigma", "high_quality", "stacked_modes", "anomaly_auroc", "anomaly_f1"),
        Measure("reconstruction_error", MEAN_CODE, "reconstruction"),
        Measure("reconstruction_error", DRAWN_CODE, f"reconstruction, {prose(DRAWN_CODE)}"),
        *_plain("kid", "cmmd", "fid", "inception_score", "classifier_score", "pairs_told"),
        Measure("svm_accuracy", C_BY_VALIDATION, "SVM accuracy, %"),
        Measure("class_accuracy", title="K+1 accuracy, %"),
        Measure("train_rate"),
    ),
)
# what README, other pages and a terminal show of it
BRIEF = replace(
    OVERVIEW,
    measures=tuple(
        measure
        for measure in OVERVIEW.measures
        if measure.protocol != DRAWN_CODE and measure.metric != "train_rate"
    ),
)
TABLES = (
    OVERVIEW,
    Table(
        "quality",
        "Samples and reconstructions. {facts}",
        (
            *_plain("modes_3sigma", "high_quality", "mode_divergence", "mixture_score"),
            *_plain("stacked_modes", "stacked_divergence"),
            *_plain("kid", "cmmd", "fid", "inception_score", "classifier_score"),
            Measure("reconstruction_error", MEAN_CODE, f"reconstruction, {prose(MEAN_CODE)}"),
            Measure("reconstruction_error", DRAWN_CODE, prose(DRAWN_CODE)),
        ),
    ),
    Table(
        "fidelity",
        "Samples against held-out data: FID's dependence on n, then realism (precision, density) and variety "
        "(recall, coverage) apart. {facts}",
        _plain("fid_half", "fid_extrapolated", "precision", "recall", "density", "coverage"),
        needs="fid",
    ),
    Table(
        "reconstruction",
        "Reconstructions by other measures, through mean codes; prior codes decoded and encoded again. "
        "{facts}",
        (
            *(Measure(metric, MEAN_CODE) for metric in ("psnr", "ssim", "lpips", "latent_error")),
            Measure("psnr", DRAWN_CODE, f"PSNR, dB, {prose(DRAWN_CODE)}"),
            Measure("ssim", DRAWN_CODE, f"SSIM, {prose(DRAWN_CODE)}"),
            Measure("posterior_sigma"),
        ),
    ),
    Table(
        "likelihood",
        "Bounds on log p(x) of held-out data, for models with a likelihood; images are uniformly "
        "dequantised, and bits per dimension are of the importance-weighted bound. Next to the models stand "
        "exact densities. {facts}",
        _plain("elbo", "iwae_bound", "bits_per_dim"),
        needs="iwae_bound",
    ),
    Table(
        "health",
        "Did it train? D's verdicts on held-out data, what codes carry, how much of the data the samples "
        "cover. Alarms name what went wrong, and in how many runs. {facts}",
        (
            *_plain("d_accuracy_q", "d_accuracy_p", "d_saturation", "code_use", "posterior_sigma"),
            *_plain("drawing_cost", "data_coverage"),
            Measure("alarms", title="alarms", derived="reasons"),
        ),
        needs="alarms",
    ),
    Table(
        "modes-paper",
        "Modes by the paper's rule, which uniform noise passes: never to be compared with the 3σ rule. "
        "{facts}",
        _plain("modes_paper"),
    ),
    Table(
        "modes-any",
        "Modes by the rule of VEEGAN and PacGAN: at least one of 2,500 samples within 3σ. One Gaussian and "
        "noise find most of them too, so read it next to the share of samples within 3σ, which is 98.89 % "
        "for Gaussians in the plane: more means collapse. {facts}",
        _plain("modes_any", "high_quality", "mode_divergence_any"),
        needs="modes_any",
    ),
    Table(
        "anomaly",
        "Samples of a class that was left out of train, ranked by each score, and called anomalies above a "
        "quantile of the scores. Next to the models stand detectors that learn next to nothing. {facts}",
        _plain("anomaly_auroc", "anomaly_ap", "anomaly_precision", "anomaly_recall", "anomaly_f1"),
        needs="anomaly_auroc",
    ),
    Table(
        "matching",
        "Does the encoder's joint of x and z match the decoder's? A classifier tells pairs (x, z) of "
        "held-out data from pairs of samples, 50 % where they match. With z shuffled it sees x and z apart: "
        "only what is above that comes from their dependence. {facts}",
        _plain(*(column.metric for column in PAIRS)),
        needs="pairs_told",
    ),
    Table(
        "matching-codes",
        "Codes of held-out data against the prior, in its deviations. {facts}",
        _plain(*(column.metric for column in CODES)),
        needs="codes_mmd",
    ),
    Table(
        "copying",
        "Are samples copies? Their distance to the nearest of train, next to that of held-out data: samples "
        "like these have 1 % of copies, a Z_U within ±3 and a ratio of 1. Copies have more and a Z_U far "
        "below 0; a Z_U far above 0 is that of samples unlike the data. {facts}",
        _plain("copies", "copying_z", "copy_distance"),
        needs="copies",
    ),
    Table(
        "svm",
        "L2-SVM on encoded features; C chosen on the full validation split, as in the paper. Differences are "
        "paired: the same draws of labels. {facts}",
        _svm(C_BY_VALIDATION),
    ),
    Table(
        "svm-labels",
        "L2-SVM on encoded features; C chosen by cross-validation within the labels. Differences are paired. "
        "{facts}",
        _svm(C_BY_LABELS),
    ),
    Table(
        "neighbours",
        "Nearest neighbours and a linear probe on the last hidden layer. Differences are paired: the same "
        "draws of labels. {facts}",
        (
            *_against_references("nn_accuracy", "1-NN"),
            *_against_references("knn_accuracy", "k-NN"),
            *_against_references("probe_accuracy", "linear probe"),
        ),
    ),
    Table(
        "semi-supervised",
        "Test error with few labels: classes learnt in training (K+1) and an SVM on features, on the same "
        "labels. {facts}",
        (
            Measure("class_accuracy", title="K+1 error, %", derived="error"),
            Measure(
                "svm_accuracy",
                C_BY_VALIDATION,
                f"SVM error, {prose(C_BY_VALIDATION)}, %",
                "same labels error",
            ),
            Measure("svm_accuracy", C_BY_LABELS, f"SVM error, {prose(C_BY_LABELS)}, %", "same labels error"),
        ),
        needs="class_accuracy",
    ),
    Table(
        "cost",
        "What a training takes: updates of each network, floating-point operations, seconds while other runs "
        "share the machine. {facts}",
        _plain(*(column.metric for column in BUDGET)),
    ),
    Table(
        "fidelity-cost",
        "Samples against what training them took; seconds while other runs share the machine. {facts}",
        _plain("fid", "kid", "updates_decoder", "train_gflop", "train_seconds"),
        needs="fid",
    ),
    Table(
        "throughput",
        "Speed measured alone after all training, median over repeats ± interquartile range. {facts}",
        _plain("train_rate", "sample_rate", "encode_rate"),
    ),
)
# tables whose measures stand in the table of statistics
SPREAD = (
    "quality",
    "fidelity",
    "reconstruction",
    "likelihood",
    "anomaly",
    "matching",
    "matching-codes",
    "svm",
    "svm-labels",
    "neighbours",
    "semi-supervised",
)
