"""Which tables there are, and which columns each has; what columns are called and which direction is better
comes from the metrics.
"""

from dataclasses import dataclass

from alibench.evaluation.measurement import Column
from alibench.evaluation.metrics import COLUMNS
from alibench.evaluation.protocols import C_BY_LABELS, C_BY_VALIDATION, DRAWN_CODE, MEAN_CODE, prose

BUDGET = (
    Column("updates_encoder", "updates of encoder", "", 0),
    Column("updates_decoder", "of decoder", "", 0),
    Column("updates_discriminator", "of discriminator", "", 0),
    Column("train_gflop", "training GFLOP", "", 0),
    Column("train_seconds", "training s", "", 1),
)
DRAWN = (
    Column("drawn_lr", "learning rate", "", 6),
    Column("drawn_beta1", "β₁", "", 3),
    Column("drawn_std", "σ of first weights", "", 4),
)
CATALOGUE = COLUMNS | {column.metric: column for column in BUDGET}
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


@dataclass(frozen=True)
class Cell:
    """One column of a table: a metric by one protocol, under the metric's title or another."""

    metric: str
    protocol: str = ""  # a key, or the beginning of several; how features were scaled, say, may follow
    title: str = ""
    # "error": 100 - value; "over NAME": paired difference to a reference; "spread": over label draws; "same
    # labels": of the draw that semi-supervised training had; "reasons": in words, and in how many runs
    derived: str = ""


@dataclass(frozen=True)
class Table:
    """A table's name, caption and columns."""

    name: str
    caption: str
    cells: tuple[Cell, ...]
    needs: str = ""  # a metric without which there is no such table


def _svm(protocol: str) -> tuple[Cell, ...]:
    by = prose(protocol)
    return (
        Cell("svm_accuracy", protocol, f"accuracy, {by}, %"),
        Cell("svm_accuracy", protocol, f"error, {by}, %", "error"),
        Cell("svm_accuracy", protocol, "− raw pixels", "over raw pixels"),
        Cell("svm_accuracy", protocol, "− untrained", "over untrained encoder"),
        Cell("svm_accuracy", protocol, "std over label draws", "spread"),
    )


OVERVIEW = Table(
    "overview",
    "The models at a glance. {facts}",
    (
        Cell("modes_3sigma"),
        Cell("reconstruction_error", MEAN_CODE, "reconstruction"),
        Cell("reconstruction_error", DRAWN_CODE, f"reconstruction, {prose(DRAWN_CODE)}"),
        Cell("kid"),
        Cell("fid"),
        Cell("inception_score"),
        Cell("classifier_score"),
        Cell("svm_accuracy", C_BY_VALIDATION, "SVM accuracy, %"),
        Cell("class_accuracy", title="K+1 accuracy, %"),
        Cell("train_rate"),
    ),
)
TABLES = (
    OVERVIEW,
    Table(
        "quality",
        "Samples and reconstructions. {facts}",
        (
            Cell("modes_3sigma"),
            Cell("high_quality"),
            Cell("mode_divergence"),
            Cell("mixture_score"),
            Cell("kid"),
            Cell("fid"),
            Cell("inception_score"),
            Cell("classifier_score"),
            Cell("reconstruction_error", MEAN_CODE, f"reconstruction, {prose(MEAN_CODE)}"),
            Cell("reconstruction_error", DRAWN_CODE, prose(DRAWN_CODE)),
        ),
    ),
    Table(
        "fidelity",
        "Samples against held-out data: FID's dependence on n, then realism (precision, density) and "
        "variety (recall, "
        "coverage) apart. {facts}",
        tuple(
            Cell(metric)
            for metric in ("fid_half", "fid_extrapolated", "precision", "recall", "density", "coverage")
        ),
        needs="fid",
    ),
    Table(
        "reconstruction",
        "Reconstructions by other measures, through mean codes; prior codes decoded and encoded again. "
        "{facts}",
        (
            *(Cell(metric, MEAN_CODE) for metric in ("psnr", "ssim", "lpips", "latent_error")),
            *(
                Cell(metric, DRAWN_CODE, f"{title}, {prose(DRAWN_CODE)}")
                for metric, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM"))
            ),
            Cell("posterior_sigma"),
        ),
    ),
    Table(
        "health",
        "Did it train? D's verdicts on held-out data, what codes carry, how much of the data samples reach. "
        "Alarms name "
        "what went wrong, and in how many runs. {facts}",
        (
            *(
                Cell(m)
                for m in ("d_accuracy_q", "d_accuracy_p", "d_saturation", "code_use", "posterior_sigma")
            ),
            *(Cell(m) for m in ("drawing_cost", "data_coverage")),
            Cell("alarms", title="alarms", derived="reasons"),
        ),
        needs="alarms",
    ),
    Table(
        "modes-paper",
        "Modes by the paper's rule, which uniform noise passes: never to be compared with the 3σ rule. "
        "{facts}",
        (Cell("modes_paper"),),
    ),
    Table(
        "svm",
        "L2-SVM on encoded features; C chosen on the full validation split, as in the paper. Differences "
        "are paired: "
        "the same draws of labels. {facts}",
        _svm(C_BY_VALIDATION),
    ),
    Table(
        "svm-labels",
        "L2-SVM on encoded features; C chosen by cross-validation within the labels. Differences are "
        "paired. {facts}",
        _svm(C_BY_LABELS),
    ),
    Table(
        "neighbours",
        "Nearest neighbours and a linear probe on the last hidden layer. Differences are paired: the same "
        "draws of labels. "
        "{facts}",
        tuple(
            Cell(metric, title=title.format(name), derived=derived)
            for metric, name in (
                ("nn_accuracy", "1-NN"),
                ("knn_accuracy", "k-NN"),
                ("probe_accuracy", "linear probe"),
            )
            for title, derived in (
                ("{}, %", ""),
                ("{} − raw pixels", "over raw pixels"),
                ("{} − untrained", "over untrained encoder"),
            )
        ),
    ),
    Table(
        "semi-supervised",
        "Test error with few labels: classes learnt in training (K+1) and an SVM on features, on the same "
        "labels. {facts}",
        (
            Cell("class_accuracy", title="K+1 error, %", derived="error"),
            Cell(
                "svm_accuracy",
                C_BY_VALIDATION,
                f"SVM error, {prose(C_BY_VALIDATION)}, %",
                "same labels error",
            ),
            Cell("svm_accuracy", C_BY_LABELS, f"SVM error, {prose(C_BY_LABELS)}, %", "same labels error"),
        ),
        needs="class_accuracy",
    ),
    Table(
        "cost",
        "What a training takes: updates of each network, floating-point operations, seconds beside other "
        "runs. {facts}",
        tuple(Cell(column.metric) for column in BUDGET),
    ),
    Table(
        "fidelity-cost",
        "Samples against what training them took; seconds beside other runs. {facts}",
        tuple(Cell(metric) for metric in ("fid", "kid", "updates_decoder", "train_gflop", "train_seconds")),
        needs="fid",
    ),
    Table(
        "throughput",
        "Speed measured alone after all training, median over repeats ± interquartile range. {facts}",
        (Cell("train_rate"), Cell("sample_rate"), Cell("encode_rate")),
    ),
)


# tables whose measures stand in the one of statistics
SPREAD = ("quality", "fidelity", "reconstruction", "svm", "svm-labels", "neighbours", "semi-supervised")
