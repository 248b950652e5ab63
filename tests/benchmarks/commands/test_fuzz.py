"""Whatever is wrong with a suite or a command line is said in one line before anything is touched: by
hundreds of examples.

Every command here names an --out that holds a file. So an example that happens to be right is refused as
well, and trains nothing; where a mistake was made on purpose, the line has to be about the mistake.
"""

import copy
import io
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alibench import evaluation, results
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.evaluation.features import extractors
from alibench.evaluation.metrics import COLUMNS, METRICS
from alibench.models import REGISTRY
from alibench.models.tables import FAMILIES

OCCUPIED = "occupied"  # what --out names
TAKEN = ("digits", "gate", "grid25_easy", "grid25_paper", "digits_semisup", "digits_updates", "alice_toy")
SUITES = {name: {"data": {}, "network": {}, "evaluation": {}, **loading.read(name)[1]} for name in TAKEN}
# a row that --models could ask for
SUITES["digits"]["model"]["critic"] = {"of": "wali", "recipe": {"lr": 1e-3}, "options": {"critic_updates": 5}}
GUARDED = [Path(results.__file__).parent / name for name in ("runs", "baselines")]
GUARDED += [loading.FOLDER, Path(evaluation.__file__).parent / "weights"]

Tree = dict[str, Any]
Listing = dict[str, tuple[int, bytes] | None]


def examples(number: int) -> Any:
    """The same examples in every session, none stored."""
    return settings(max_examples=number, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that commands run in, with good and bad things to name."""
    folder = tmp_path_factory.mktemp("fuzz")
    for file, content in {
        f"{OCCUPIED}/precious.txt": b"precious",
        "text.txt": b"some text",
        "broken.npz": b"PK\x03\x04 and no more",
        "bytes.toml": bytes(range(256)),
        "pictures/one/a.png": b"\x89PNG\r\n\x1a\n and no more",
        "pictures/one/b.png": b"",
        "deep/a/b/c/d.png": b"",
        "garbage/runs/a/run.json": b'{"suite": "digits"',
        "garbage/runs/a/rows.json": b'{"rows": [1, 2], "sha256": "0"}',
        "garbage/runs/a/model.safetensors": b"\x00" * 7,
        "lists/runs/a/run.json": b"[]",
        "lists/runs/a/rows.json": b"[]",
        "lists/runs/a/model.safetensors": b"[]",
        "folders/runs/a/run.json/x": b"",
        "folders/runs/a/rows.json/x": b"",
        "folders/runs/a/model.safetensors/x": b"",
        "files/runs": b"",
        "baseline.json": b'{"version": 1, "sha256": "0", "baseline": {}}',
        "baseline.bin": bytes(range(256)),
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    (folder / "empty").mkdir()
    np.savez(folder / "floats.npz", x=np.zeros((3, 2, 2)))
    np.savez(folder / "none.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def listing(folder: Path) -> Listing:
    """All that is below a folder and below those of the checkout that commands write to: times and contents
    of files.
    """
    found: Listing = {}
    for root, names, files in os.walk(folder):
        found |= dict.fromkeys(os.path.join(root, name) for name in names)
        for file in (os.path.join(root, name) for name in files):
            found[file] = os.stat(file).st_mtime_ns, Path(file).read_bytes()
    for guarded in GUARDED:
        found |= dict.fromkeys(map(str, guarded.glob("*")))
    return found


def refusal(place: Path, arguments: list[str]) -> str:
    """Run a command; return the line that it is refused with, if it is, and nothing is touched."""
    before, errors, output = listing(place), io.StringIO(), io.StringIO()
    with redirect_stderr(errors), redirect_stdout(output):
        code = main(arguments)
    line = errors.getvalue()
    assert (code, output.getvalue()) == (2, ""), line
    assert line.startswith("alibench: ")
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert line[:-1].isprintable()
    assert listing(place) == before
    return line


def found_out(place: Path, arguments: list[str]) -> str:
    """Return the line that a command with a mistake is refused with; it is about the mistake."""
    line = refusal(place, arguments)
    assert OCCUPIED not in line
    return line


# ------------------------------------------------------------------------------------------------ TOML


def toml(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | date) else repr(value)


def document(table: Tree) -> str:
    """Return a table as a TOML file."""
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items())


def write(place: Path, content: str | bytes, name: str = "mine.toml") -> None:
    (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", SUITES)
def test_the_suites_that_are_spoilt_below_are_right_before(name: str, place: Path) -> None:
    write(place, document(SUITES[name]))
    assert tomllib.loads(document(SUITES[name])) == SUITES[name]
    assert OCCUPIED in refusal(place, ["run", "mine.toml", "--out", OCCUPIED])


# -------------------- what is wrong of a field

HUGE = [10**18, 2**63, 2**64, 2**70, 10**400]
ODD = ["", " ", "\n", "a\nb", "a\r\x85b", "\0", "\x1b[31m", "\u202ex", "e\u0301", "x" * 5000, "🦆"]
ODD += ["../../x", "a/b", "[/x]"]
names = st.one_of(st.sampled_from(ODD), st.text(max_size=20))
integers = st.one_of(st.sampled_from([0, -1, *HUGE, *(-n for n in HUGE)]), st.integers())
floats = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 5e-324]), st.floats())
dates = st.just(date(2017, 4, 24))
tables = st.dictionaries(names, st.integers(0, 3), max_size=2)
lists = st.lists(st.one_of(names, integers, floats, tables), max_size=3)

NOT_TEXT = st.one_of(integers, floats, st.booleans(), dates, lists, tables)
NOT_TABLE = st.one_of(integers, floats, st.booleans(), dates, names, lists)
NOT_LIST = st.one_of(integers, floats, st.booleans(), dates, names, tables)
NOT_TRUTH = st.one_of(integers, floats, dates, names, lists, tables)
NOT_NUMBER = st.one_of(st.booleans(), dates, names, lists, tables)


def count(least: int, most: int) -> st.SearchStrategy[Any]:
    outside = st.one_of(integers, st.just(least - 1), st.just(most + 1)).filter(
        lambda n: not least <= n <= most
    )
    return st.one_of(NOT_NUMBER, floats, outside)


def number(least: float, most: float) -> st.SearchStrategy[Any]:
    return st.one_of(NOT_NUMBER, st.one_of(floats, integers).filter(lambda x: not least <= x <= most))


def unknown(*known: str) -> st.SearchStrategy[str]:
    misspelt = st.sampled_from(known).flatmap(
        lambda name: st.sampled_from([f"{name}x", f"{name}_".upper(), f" {name}"])
    )
    return st.one_of(misspelt, names).filter(lambda name: name not in known)


def one_of(*known: str) -> st.SearchStrategy[Any]:
    return st.one_of(NOT_TEXT, unknown(*known))


def names_of(*known: str) -> st.SearchStrategy[Any]:
    some, wrong = st.lists(st.sampled_from(known), max_size=2), one_of(*known)
    twice = st.sampled_from(known).map(lambda name: [name, name])
    return st.one_of(NOT_LIST, twice, st.tuples(some, wrong).map(lambda parts: [*parts[0], parts[1]]))


def list_of(wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(NOT_LIST, st.just([]), wrong.map(lambda value: [value]))


def pair_of(right: float, wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = wrong.flatmap(
        lambda value: st.sampled_from([[right, value], [value, right], [right], [right] * 3])
    )
    return st.one_of(NOT_LIST, st.just([]), pairs)


MODELS = tuple(REGISTRY)
RATE, DECAY, SHARE, LARGE, WEIGHT = (
    number(1e-30, 1e30),
    number(0, 1 - 2**-53),
    number(0, 1),
    number(0, 1e30),
    number(0, 1e6),
)

# what is wrong of a field, by the table that it stands in; "*" stands for a row's name
WRONG: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("title", "source", "expect"), NOT_TEXT),
    "dataset": one_of("grid25", "grid25_easy", "alice_toy", "digits"),
    "networks": one_of(*FAMILIES),
    "latent": count(1, 10**6),
    "models": st.one_of(st.just([]), names_of(*MODELS)),
    "metrics": names_of(*METRICS),
    "seeds": count(1, 10_000),
    "first_seed": count(0, 4 * 10**9),
    "prior": one_of("normal", "uniform"),
    **dict.fromkeys(("recipe", "data", "network", "draw", "evaluation", "model", "search"), NOT_TABLE),
    "recipe.steps": count(1, 10**9),
    "recipe.batch": st.one_of(
        count(1, 10**6), st.just(10**6)
    ),  # more than any of these suites has to train on
    "recipe.lr": RATE,
    **dict.fromkeys(("recipe.beta1", "recipe.beta2", "recipe.ema"), DECAY),
    **dict.fromkeys(("recipe.decay", "recipe.decay_to"), SHARE),
    "recipe.weight_decay": LARGE,
    "recipe.statistics": count(0, 10**6),
    "recipe.update": one_of("simultaneous", "separate", "alternating"),
    "recipe.precision": one_of("fp32", "tf32", "bf16"),
    "recipe.execution": one_of("eager", "graphs"),
    **dict.fromkeys(
        ("data.size", "data.channels", "data.seed"), count(0, 0)
    ),  # of files alone; these suites read none
    "draw.lr": pair_of(1e-3, RATE),
    "draw.beta1": pair_of(0.5, DECAY),
    "draw.std": pair_of(0.02, RATE),
    **{
        f"evaluation.{name}": count(1, 10**6)
        for name in ("samples", "kept_back", "draws", "resamples", "neighbours")
    },
    "evaluation.labels": count(1, 10**6).filter(lambda value: value != "all"),
    "evaluation.reference": one_of("", "train", "validation", "test"),
    "evaluation.extractor": one_of(*extractors.BUILT_IN),
    **dict.fromkeys(("evaluation.inception", "evaluation.weights", "evaluation.perceptual"), NOT_TEXT),
    "evaluation.labels_from": one_of("train", "validation"),
    "evaluation.standardise": NOT_TRUTH,
    "evaluation.seconds": number(5e-324, 3600),
    "search.lr": list_of(RATE),
    "search.beta1": list_of(DECAY),
    "search.judged_by": list_of(one_of(*COLUMNS)),
    "search.seeds": count(1, 10_000),
    "gate": st.one_of(NOT_LIST, NOT_TABLE.map(lambda value: [value])),
    "gate.metric": one_of(*COLUMNS),
    "gate.protocol": NOT_TEXT,
    "gate.models": st.one_of(NOT_LIST, one_of(*MODELS).map(lambda value: [value])),
    "gate.worse": one_of("", "higher", "lower", "either"),
    "gate.scale": one_of("linear", "log"),
    "gate.over": st.one_of(NOT_TEXT, names.filter(bool)),
    **dict.fromkeys(("gate.relative", "gate.absolute"), LARGE),
    "model.*": NOT_TABLE,
    "model.*.of": one_of("", *MODELS),
    "model.*.title": NOT_TEXT,
    "model.*.compute": one_of("", *MODELS),
    **dict.fromkeys(("model.*.recipe", "model.*.options"), NOT_TABLE),
    **dict.fromkeys(("model.*.options.regression", "model.*.options.weight"), WEIGHT),
    "model.*.options.generator_updates": count(0, 1000),
    "model.*.options.critic_updates": count(1, 1000),
}
WRONG |= {f"model.*.{key}": wrong for key, wrong in WRONG.items() if key.startswith("recipe.")}
KNOWN = {part for key in WRONG for part in key.split(".")} | {"name"} | set(MODELS)
REQUIRED = {"title", "source", "expect", "dataset", "networks", "latent", "models", "metrics", "recipe"}
REQUIRED |= {"recipe.steps", "search.lr", "search.beta1", "search.judged_by", "gate.metric"}
REQUIRED |= {"draw.lr", "draw.beta1", "draw.std"}

Route = tuple[str | int, ...]


def pattern(route: Route) -> str:
    """Return a route through a suite as a key of WRONG: without list places, "*" for a row's name."""
    parts = [part for part in route if isinstance(part, str)]
    return ".".join("*" if i == 1 and parts[0] == "model" else part for i, part in enumerate(parts))


def there(value: Any, route: Route = ()) -> Iterator[tuple[Route, Any]]:
    """Yield the routes to all tables and fields of a suite, with what they lead to."""
    if isinstance(value, dict):
        yield route, value
        for key, part in value.items():
            yield from there(part, (*route, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield route, value
        for i, part in enumerate(value):
            yield from there(part, (*route, i))
    else:
        yield route, value


def possible(suite: Tree) -> Iterator[Route]:
    """Yield the routes to all fields that the suite has, and that its tables could have."""
    for route, value in there(suite):
        if route and isinstance(route[-1], str):
            yield route
        if isinstance(value, dict):
            beside = [key.rpartition(".") for key in WRONG]
            own = [key for table, _, key in beside if table == pattern(route) and key not in (*value, "*")]
            # which options there are is for the model to say
            yield from ((*route, key) for key in own if route[-1:] != ("options",))


FIELDS = [(name, route) for name, suite in SUITES.items() for route in possible(suite)]
TABLES = [
    (name, route)
    for name, suite in SUITES.items()
    for route, value in there(suite)
    if isinstance(value, dict)
]


def parent(suite: Tree, route: Route) -> Any:
    """Return the table that a route's last part stands in."""
    table: Any = suite
    for part in route[:-1]:
        table = table[part]
    return table


def names_it(line: str, route: Route) -> bool:
    """Whether a line names a field; "unknown dataset" is of dataset, "no models" of models."""
    return str(route[-1]).rstrip("s") in line.replace(" ", "")


@examples(250)
@given(st.sampled_from(FIELDS).flatmap(lambda field: st.tuples(st.just(field), WRONG[pattern(field[1])])))
def test_a_value_of_a_wrong_kind_or_out_of_its_range_is_refused_by_the_fields_name(
    place: Path, case: tuple[tuple[str, Route], Any]
) -> None:
    (name, route), value = case
    suite = copy.deepcopy(SUITES[name])
    parent(suite, route)[route[-1]] = value
    write(place, document(suite))
    assert names_it(found_out(place, ["run", "mine.toml", "--out", OCCUPIED]), route)


@examples(100)
@given(st.sampled_from(TABLES), names.filter(lambda key: key not in KNOWN), st.one_of(NOT_TEXT, names))
def test_a_field_that_nobody_knows_is_refused_by_its_name(
    place: Path, table: tuple[str, Route], key: str, value: Any
) -> None:
    name, route = table
    suite = copy.deepcopy(SUITES[name])
    parent(suite, (*route, key))[key] = value
    write(place, document(suite))
    line = found_out(place, ["run", "mine.toml", "--out", OCCUPIED])
    assert key in line or not key.isprintable() or len(key) > 100


@examples(40)
@given(names.filter(lambda name: not name or "/" in name or not name.isprintable()))
def test_a_row_whose_name_is_no_folders_is_refused(place: Path, name: str) -> None:
    suite = copy.deepcopy(SUITES["digits"])
    suite["model"][name] = {"of": "ali"}
    write(place, document(suite | {"models": ["ali", name]}))
    assert "folders are called by it" in found_out(place, ["run", "mine.toml", "--out", OCCUPIED])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"latent": 900_000}, "weights, 100,000,000 are the most: set a smaller latent"),
        ({"evaluation": {"extractor": "inception", "inception": "a\0b"}}, "embedded null byte"),
        (
            {"evaluation": {"extractor": "inception", "inception": "~nobody there/x"}},
            "No such file or directory",
        ),
    ],
)
def test_what_each_value_allows_and_all_together_do_not_is_refused(
    setting: Tree, told: str, place: Path
) -> None:
    write(place, document(SUITES["digits"] | setting))
    assert told in found_out(place, ["run", "mine.toml", "--out", OCCUPIED])


@pytest.mark.parametrize(("name", "route"), [(n, r) for n, r in FIELDS if pattern(r) in REQUIRED])
def test_a_missing_field_is_refused_by_its_name(place: Path, name: str, route: Route) -> None:
    suite = copy.deepcopy(SUITES[name])
    del parent(suite, route)[route[-1]]
    write(place, document(suite))
    assert names_it(found_out(place, ["run", "mine.toml", "--out", OCCUPIED]), route)


# -------------------- what is wrong of a file

TEXTS = {name: (loading.FOLDER / f"{name}.toml").read_bytes() for name in ("quick", *TAKEN)}
texts = st.sampled_from(sorted(TEXTS)).map(TEXTS.__getitem__)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a suite's file that is cut short, or that lacks, repeats or has too much of something."""
    text = draw(texts)
    start = draw(st.integers(0, len(text)))
    end = min(len(text), start + draw(st.integers(0, 40)))
    cut, lacking, repeated = text[:start], text[:start] + text[end:], text[:end] + text[start:]
    strange = text[:start] + draw(st.binary(max_size=9)) + text[end:]
    return draw(st.sampled_from([cut, lacking, repeated, strange]))


@examples(100)
@given(damaged())
def test_whatever_a_damaged_file_still_says_nothing_is_run_or_touched(place: Path, content: bytes) -> None:
    write(place, content)
    refusal(place, ["run", "mine.toml", "--out", OCCUPIED])


def twice(text: bytes, place: int) -> bytes:
    """Return a file with one of its assignments repeated."""
    lines = text.splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if re.match(rb"\w+ = ", line)]
    i = at[place % len(at)]
    return b"".join([*lines[: i + 1], *lines[i:]])


def inserted(text: bytes, place: int, what: bytes) -> bytes:
    place %= len(text)
    return text[:place] + what + text[place:]


places = st.integers(0, 10_000)
NO_TOML = st.one_of(
    st.builds(twice, texts, places),
    st.builds(
        inserted, texts, places, st.sampled_from([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x00", b"\x07"])
    ),
    st.builds(lambda text, digits: text + b"\n[more]\nx = " + b"9" * digits, texts, st.integers(4301, 6000)),
    st.builds(
        lambda text, sign, depth: b"x = " + sign * depth + text,
        texts,
        st.sampled_from([b"[", b"{a="]),
        places,
    ),
)


@examples(80)
@given(NO_TOML)
def test_a_file_that_is_no_toml_is_said_to_be_none(place: Path, content: bytes) -> None:
    write(place, content)
    line = found_out(place, ["run", "mine.toml", "--out", OCCUPIED])
    assert "suite 'mine' is not valid TOML" in line


@st.composite
def collections(draw: st.DrawFn) -> dict[str, Tree]:
    """Draw collections that include each other in a circle, or one that includes what cannot be."""
    about = {"title": "t", "expect": "e"}
    circle = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    before = st.lists(st.sampled_from(["digits", "grid25_easy"]), max_size=1)
    following = [f"{name}.toml" for name in (*circle[1:], circle[0])]
    around = {
        f"{a}.toml": about | {"include": [*draw(before), b]} for a, b in zip(circle, following, strict=True)
    }
    others = st.sampled_from([[], ["quick", "digits"], ["missing.toml"], ["digits", "digits"]])
    include = draw(st.one_of(others, names_of("digits", "gate")))
    one = {f"{circle[0]}.toml": about | {"include": include}}
    key = draw(names.filter(lambda name: name not in ("title", "expect", "include")))
    more = {f"{circle[0]}.toml": about | {"include": ["digits"], key: draw(names)}}
    less = {
        f"{circle[0]}.toml": {"include": ["digits"], **dict([draw(st.sampled_from(sorted(about.items())))])}
    }
    return draw(st.sampled_from([around, one, more, less]))


@examples(60)
@given(collections())
def test_a_collection_of_itself_or_of_nothing_that_is_there_is_refused(
    place: Path, files: dict[str, Tree]
) -> None:
    for name, table in files.items():
        write(place, document(table), name)
    found_out(place, ["run", next(iter(files)), "--out", OCCUPIED])


# -------------------- command lines

# no system hands a zero byte to a program, and what begins with "-" may ask for help
words = st.one_of(names, st.just("x\udcff")).filter(
    lambda word: "\0" not in word and not word.startswith("-")
)
COMMANDS = ("run", "evaluate", "list", "table", "compare", "tables", "regression", "tune", "fit-extractor")
MISSING = ["nowhere", "empty", "text.txt", "text.txt/below", "x" * 300, "~nobody/x", "", ".", "files"]
MISSING += ["x\udcff", "a\nb"]
BAD_RUNS = [*MISSING, "garbage", "lists", "folders"]
FOLDERS = ("nowhere", "empty", "text.txt", "pictures", "deep", "x" * 300, "x\udcff", "a\nb")
ARRAYS = ("nowhere", "empty", "text.txt", "broken.npz", "floats.npz", "none.npz", "x" * 300)
BAD_DATA = [*(f"folder:{path}" for path in FOLDERS), *(f"npz:{path}" for path in ARRAYS)]
BAD_DATA += ["folder:", "npz:", "folder", ":", "imagenet", "digit", ""]
BAD_DEVICES = ["", " cpu", "CPU", "cpu:", "cpu:0", "cpu:²", "cuda:", "cuda:99", "cuda:-1", "cuda:x", "gpu"]
BAD_SETS = ["", " =3", "steps=4\nlr=1", f"latent={'[' * 3000}", f"latent={'9' * 5000}", "=", "steps", "=3"]
BAD_SETS += [f"seeds={'x' * 5000}", f"{'a.' * 3000}b=1", "a.b.c=", "recipe=1", "recipe.=1", "latent=["]
BAD_SETS += ["model.ali=3", "data.size=-3", "dataset=", "steps=", "latent=1e9", "title.x=1", "models.0=ali"]
BAD_SETS += ["model..recipe.lr=1", "gate.metric=fid", ".=", ".steps=1"]
BAD_BASELINES = ["baseline.json", "baseline.bin", "empty", "text.txt/x.json", "x" * 300, "", "a\nb"]


def no_whole(wrong: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    """Draw what is no whole number, or a wrong one; Python reads spaces, underscores and digits of all
    scripts.
    """
    texts = st.one_of(words, st.floats().map(str), st.just("1" * 5000))
    return st.one_of(texts.filter(lambda text: not re.fullmatch(r"\s*\+?[\d_]+\s*", text)), wrong.map(str))


def no_number(least: float, most: float) -> st.SearchStrategy[str]:
    """Draw what is no number from `least` to `most`."""

    def is_one(text: str) -> bool:
        try:
            return least <= float(text) <= most
        except ValueError:
            return False

    odd = st.sampled_from(["nan", "inf", "-1", "0", "1.1", "1e400", "-1e-300", "0x1", "1,5"])
    return st.one_of(words, st.floats().map(str), odd).filter(lambda text: not is_one(text))


def assignments(*suites: str) -> st.SearchStrategy[str]:
    """Draw a wrong --set for suites."""
    fields = [
        route for name, route in FIELDS if name in suites and "gate" not in route and "model" not in route
    ]
    wrong = st.sampled_from(fields).flatmap(
        lambda route: WRONG[pattern(route)].map(lambda value: f"{'.'.join(map(str, route))}={toml(value)}")
    )
    no_key = words.filter(lambda word: "=" not in word)
    strange = st.tuples(words, words).map(lambda pair: f"no{pair[0]}={pair[1]}")
    return st.one_of(st.sampled_from(BAD_SETS), wrong, no_key, strange).filter(lambda text: "\0" not in text)


seeds = no_whole(integers.filter(lambda n: not 1 <= n <= 10_000))
devices = st.one_of(st.sampled_from(BAD_DEVICES), words)
runs = st.sampled_from(BAD_RUNS)
TRAINING = {
    "--device": devices,
    "--retries": no_whole(st.integers(max_value=-1)),
    "--checkpoint-every": no_number(0, math.inf),
}
SUITE = {
    **TRAINING,
    "--models": words.filter(lambda word: word not in MODELS),
    "--data": st.sampled_from(BAD_DATA),
    "--scale": no_number(5e-324, 1),
    "--size": no_whole(integers.filter(bool)),  # these data are not resized
    "--channels": st.one_of(words, integers.map(str)),
    "--set": assignments("digits", "grid25_easy"),
}
# a command that is right but for --out, and what is wrong of its options; None: of what it takes without a
# name
LINES: dict[tuple[str, ...], dict[str | None, st.SearchStrategy[str]]] = {
    ("run", "digits"): {**SUITE, "--seeds": seeds},
    ("run", "grid25_easy", "--models", "ali", "vae"): {**SUITE, "--seeds": seeds},
    ("tune", "digits"): SUITE,
    ("tune", "grid25_easy"): {
        "--set": st.sampled_from(
            [f"search.judged_by=['{m}']" for m in ("fid", "posterior_sigma", "drawn_lr")]
        )
    },
    ("run",): {None: st.one_of(words, runs, st.just("bytes.toml"))},
    ("tune",): {None: st.one_of(words, st.sampled_from(["gate", "grid25", "alice_toy", "bytes.toml"]))},
    ("evaluate",): {None: runs},
    ("table",): {None: runs},
    ("compare",): {None: runs},
    ("compare", "nowhere"): {None: runs, "--metrics": words},
    ("tables",): {"--from": runs},
    ("regression", "gate"): {
        **TRAINING,
        "--seeds": seeds,
        "--first-seed": no_whole(integers.filter(lambda n: not 0 <= n <= 4 * 10**9)),
        "--baseline": st.sampled_from(BAD_BASELINES),
        "--from": runs,
        "--set": assignments("gate"),
    },
    ("regression", "--update-baseline", "--baseline", "new/folder/x.json"): {
        **TRAINING,
        "--seeds": seeds,
        "--from": runs,
    },
    ("regression", "--update-baseline"): {
        "--baseline": st.sampled_from(["empty", "text.txt/x.json", "x" * 300, ""])
    },
    ("regression",): {None: st.one_of(words, st.sampled_from(["quick", "digits", "bytes.toml"]))},
    ("fit-extractor",): {None: st.one_of(words, st.sampled_from([*BAD_DATA, "grid25", "alice_toy"]))},
    ("fit-extractor", "digits"): {"--size": SUITE["--size"], "--channels": SUITE["--channels"]},
    ("list",): {None: words},
    (): {None: words.filter(lambda word: word not in COMMANDS)},
}
# commands without --out, which must not be right
BARE = ("table", "fit-extractor", "list")


@st.composite
def mistaken(draw: st.DrawFn) -> list[str]:
    """Draw a command line with a mistake: a wrong value, none, an option that there is not, or one word too
    many.
    """
    right, wrong = draw(st.sampled_from(list(LINES.items())))
    name = draw(st.sampled_from(list(wrong)))
    value = draw(wrong[name])
    out = [] if not right or right[0] in BARE else ["--out", OCCUPIED]
    spoilt = [value] if name is None else draw(st.sampled_from([[name, value], [f"{name}={value}"]]))
    if name is None or draw(st.integers(0, 3)):
        return [*right, *out, *spoilt]
    misspelt = draw(st.sampled_from([f"{name}x", f"-{name}", name.upper(), f"--z{value}"]))
    return draw(
        st.sampled_from([[*right, *out, name], [*right, *out, misspelt], [*right, *out, misspelt, "1"]])
    )


@examples(300)
@given(mistaken())
def test_a_mistaken_command_line_is_refused_for_its_mistake(place: Path, arguments: list[str]) -> None:
    found_out(place, arguments)


@pytest.mark.parametrize(
    "arguments", [[command] for command in COMMANDS if command not in ("list", "tables", "regression")]
)
def test_a_command_without_what_it_takes_says_what(arguments: list[str], place: Path) -> None:
    assert "issing " in found_out(place, arguments)


@pytest.mark.parametrize("command", [["run", "digits"], ["tune", "digits"], ["regression"]])
@pytest.mark.parametrize(
    "out", [OCCUPIED, "text.txt", "text.txt/below", f"{OCCUPIED}/precious.txt", "x" * 300, ""]
)
def test_an_out_that_cannot_be_is_left_alone(command: list[str], out: str, place: Path) -> None:
    refusal(place, [*command, "--out", out])
