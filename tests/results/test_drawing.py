"""Figures come out the same whatever the machine sets for matplotlib, with every name that users give."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import font_manager

from alibench.results import drawing, figures

NAMES = ("_background_", "猫の写真", "d$x$", "Granny Smith apples, ripe or not")


def codes() -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(80) % 4
    return np.random.RandomState(0).standard_normal((80, 5)) + y[:, None], y


NOTEBOOKS = "module://matplotlib_inline.backend_inline"


def test_figures_need_no_backend_and_no_settings_of_the_machine(tmp_path: Path) -> None:
    """Once a notebook's backend ended every command after its training, and usetex asked for LaTeX."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    script = (
        "import os, numpy as np; from alibench.results import drawing, figures; import matplotlib\n"
        "figure = figures.latent(np.random.RandomState(0).randn(40, 3), np.arange(40) % 4)[0]\n"
        "print(drawing.svg(figure, 'x')); assert os.environ['MPLBACKEND'] == " + repr(NOTEBOOKS) + "\n"
        "assert matplotlib.rcParams['text.usetex']"  # outside our figures the user's settings stay
    )
    machine = {"MPLBACKEND": NOTEBOOKS, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"} | machine
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figure = figures.latent(np.random.RandomState(0).randn(40, 3), np.arange(40) % 4)[0]
    assert done.stdout.strip() == drawing.svg(figure, "x").strip()


def test_a_legend_has_every_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a script that a font lacks, of names that matplotlib leaves out
        drawn = drawing.svg(figures.latent(*codes(), NAMES)[0], "latent")
    assert all(f">{name}</text>" in drawn for name in NAMES[:3])
    assert f">{NAMES[3][: drawing.LONGEST_NAME - 1]}…</text>" in drawn


def test_a_legend_has_every_player_once() -> None:
    curves = pd.DataFrame(
        {"phase": ["game"] * 3, "step": [1, 2, 3], "loss _mine": [3.0, 2.0, 1.0], "loss other": [1.0] * 3}
    )
    drawn = drawing.svg(figures.curves({0: curves, 1: curves}), "curves")
    assert drawn.count(">_mine</text>") == drawn.count(">other</text>") == 1


def test_a_longer_name_makes_room_for_itself() -> None:
    narrow, broad = (figures.latent(*codes(), [name] * 4)[0].get_size_inches()[0] for name in ("a", "a" * 20))
    assert broad - narrow > 1


def test_the_fonts_of_pictures_are_installed() -> None:
    assert set(drawing.fonts()) <= set(font_manager.get_font_names())
