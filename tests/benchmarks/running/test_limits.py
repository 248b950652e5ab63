"""How many runs go side by side where a container allows less than the machine has."""

from pathlib import Path

import joblib
import pytest
import torch

from alibench.benchmarks.running import local

TREES = {  # files of control groups, what /proc/self/cgroup says, and the limit
    "version 2": ({"memory.max": "3000000000\n"}, "0::/\n", 3_000_000_000),
    "version 2, of a group": (
        {"memory.max": "max\n", "a/memory.max": "max\n", "a/b/memory.max": "7"},
        "0::/a/b\n",
        7,
    ),
    "version 2, of a group above": ({"a/memory.max": "5\n", "a/b/memory.max": "7\n"}, "0::/a/b\n", 5),
    "version 1": (
        {"memory/memory.limit_in_bytes": "4000000000\n"},
        "3:cpu:/x\n2:memory:/elsewhere\n",
        4_000_000_000,
    ),
    "version 1, of a group": ({"memory/a/memory.limit_in_bytes": "9\n"}, "2:hugetlb,memory:/a\n", 9),
}


@pytest.mark.parametrize("case", TREES)
def test_a_container_s_memory_counts(case: str, tmp_path: Path) -> None:
    tree, said, limit = TREES[case]
    for name, text in tree.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "member").write_text(said)
    assert local.memory_limit(tmp_path / "groups", tmp_path / "member") == limit


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_without_a_limit_it_is_the_machine_s_memory(text: str, tmp_path: Path) -> None:
    physical = local.memory_limit(tmp_path / "nowhere", tmp_path / "nothing")
    assert physical is None or physical > 10**8
    (tmp_path / "memory.max").write_text(text)
    if physical:
        assert local.memory_limit(tmp_path, tmp_path / "nothing") == physical


def test_workers_are_as_many_as_processors_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)  # which counts a quota and the affinity
    for memory, count in ((None, 8), (64 * 10**9, 8), (3 * 10**9, 3), (10**8, 1)):
        monkeypatch.setattr(local, "memory_limit", lambda memory=memory: memory)
        assert local.workers(torch.device("cpu")) == count
