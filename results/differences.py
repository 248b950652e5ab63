"""What two nested tables have different, by their dotted keys."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alibench.evaluation.messages import listed


def differences(begun: Mapping[str, Any], now: Mapping[str, Any], when: str = "now") -> str:
    """Say what differs in two plans, by name, with both values where they can be read, or nothing; `when` the
    second is.
    """
    a, b = (dict(_flat(each)) for each in (begun, now))
    found = []
    for key in [*a, *(key for key in b if key not in a)]:
        before, after = a.get(key), b.get(key)
        if key[::2] == ("suites", "dataset") and only_moved(key[1], begun, now):
            continue  # where data lie is not a difference
        # these follow from the suites, those change no number
        if key[0] == "runs" or key[2:3] == ("resources",) or key[-2:] == ("recipe", "execution"):
            continue
        default = (key not in a and after in ("", {})) or (
            key not in b and before in ("", {})
        )  # of a table that is new
        if before != after and not default:
            kind, *names = key
            name = ".".join(names)
            said = {
                "code": f"{name} (its code)",
                "data": f"the data of suite '{name}'",
                "device": "the device",
            }
            values = "" if kind in ("code", "data") else f" ({before!r}, {when} {after!r})"
            found.append(said.get(kind, name) + values)
    return listed(found)


def _flat(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, (*path, key))
        else:
            yield (*path, key), value


def only_moved(suite: str, begun: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two plans have the same files of a suite's data under the same name, maybe in other
    folders.
    """
    hashes = [plan.get("data", {}).get(suite) for plan in (begun, now)]
    if hashes[0] is None or hashes[0] != hashes[1]:
        return False

    # a set that is opened at a place is written as KIND:PLACE
    datasets = [str(plan.get("suites", {}).get(suite, {}).get("dataset")) for plan in (begun, now)]
    kinds, colons, places = zip(*(dataset.partition(":") for dataset in datasets), strict=True)
    names = {Path(os.path.normpath(place)).name for place in places}
    return all(colons) and len(set(kinds)) == 1 and len(names) == 1
