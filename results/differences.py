"""What differs between two nested tables, named by dotted keys."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alibench.evaluation.messages import listed

Keys = tuple[str, ...]
EMPTY: tuple[Any, ...] = (None, "", {})  # defaults of what a later version added


def changed(
    before: Mapping[str, Any], now: Mapping[str, Any], common: bool = False, above: Keys = ()
) -> Iterator[tuple[Keys, Any, Any]]:
    """Yield keys and both values of every entry that differs; None stands for an entry that a table lacks.

    `common`: entries that only one of the tables has do not count.
    """
    for key in dict.fromkeys([*before, *now]):
        # an older table need not have what a later version added
        if common and not (key in before and key in now):
            continue

        old, new = before.get(key), now.get(key)
        tables = [value for value in (old, new) if isinstance(value, Mapping)]
        # a table that is new or gone is named entry by entry
        if len(tables) == 2 or (tables and None in (old, new) and not common):
            yield from changed(old or {}, new or {}, common, (*above, key))
        elif old != new:
            yield (*above, key), old, new


def differences(begun: Mapping[str, Any], now: Mapping[str, Any], when: str = "now") -> str:
    """Return what differs between two plans in one line, with both values where a reader knows them, or "".

    `when` names the second plan. What follows from the suites, or changes no number, does not count.
    """
    named = []
    for keys, before, after in changed(begun, now):
        kind, *rest = keys
        name = ".".join(rest)
        # Moved files are the same data; the machine and the order of computing change no number.
        moved = (kind, *rest[1:]) == ("suites", "dataset") and only_moved(rest[0], begun, now)
        free = kind == "runs" or rest[1:2] == ["resources"] or rest[-2:] == ["recipe", "execution"]
        if moved or free or (before in EMPTY and after in EMPTY):
            continue

        # hashes say nothing to a reader
        said = {"code": f"{name} (its code)", "data": f"the data of suite '{name}'", "device": "the device"}
        said["per_image"] = "--per-image"
        values = "" if kind in ("code", "data") else f" ({before!r}, {when} {after!r})"
        named.append(said.get(kind, name) + values)
    return listed(named)


def only_moved(suite: str, begun: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two plans have the same data of a suite under the same name, maybe in other folders."""
    # the same content
    hashes = [plan.get("data", {}).get(suite) for plan in (begun, now)]
    if hashes[0] is None or hashes[0] != hashes[1]:
        return False

    # a dataset that is opened at a place is written as KIND:PLACE
    datasets = [str(plan.get("suites", {}).get(suite, {}).get("dataset")) for plan in (begun, now)]
    kinds, colons, places = zip(*(dataset.partition(":") for dataset in datasets), strict=True)
    names = {Path(os.path.normpath(place)).name for place in places}
    return all(colons) and len(set(kinds)) == 1 and len(names) == 1
