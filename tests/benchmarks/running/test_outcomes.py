"""How jobs end, as printed, stored by `--json`, and sent between processes."""

import pickle

import pytest

from alibench.benchmarks.running.outcomes import OK, STOPPED, Outcome, Status, device_failed, failed


@pytest.mark.parametrize(
    ("outcome", "text", "is_failure"),
    [
        (OK, "ok", False),
        (STOPPED, "stopped", False),
        (Outcome(Status.DIVERGED, "a loss is nan"), "diverged: a loss is nan", False),
        (failed(ValueError("no room")), "failed: no room", True),
        (Outcome(Status.DEVICE_FAILED, "CUDA error"), "failed: the device failed: CUDA error", True),
    ],
)
def test_an_outcome_is_sent_as_it_is_and_printed_as_its_text(
    outcome: Outcome, text: str, is_failure: bool
) -> None:
    sent = pickle.loads(pickle.dumps(outcome))
    assert sent == outcome
    assert sent.status is outcome.status
    assert f"{sent}" == str(sent) == text
    assert sent.failed == is_failure
    assert device_failed({"a": OK, "b": sent}) == (sent.status is Status.DEVICE_FAILED)
