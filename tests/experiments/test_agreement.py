"""The agreement study: the online rule's updates, added up, against the batch rule's."""

import numpy as np
import pytest

from infohebb.errors import MismatchError
from infohebb.experiments.studies.agreement import agreement


def test_two_points_go_where_the_batch_rule_does():
    final, curves, arrays = agreement("two_point", grouped=False, stimuli=400)
    assert final["cosine"] > 0.8
    assert 0.7 < final["scale"] < 1.3
    assert final["cosine_after_400"] == final["cosine"] == curves["cosine"][-1]
    assert curves["stimuli"] == sorted(set(curves["stimuli"]))
    assert {4, 40, 400} <= set(curves["stimuli"])
    assert set(arrays) == {f"trace_{name}" for name in ("time", "onset", "pre", "post", "third_factor")}
    assert {len(values) for values in arrays.values()} == {48}
    assert arrays["trace_time"].tolist() == [*range(48)]


@pytest.fixture
def few_shown(monkeypatch):
    """Of one stimulus alone the time steps are shown."""
    monkeypatch.setattr("infohebb.experiments.studies.agreement.SHOWN", 1)


@pytest.mark.usefixtures("few_shown")
def test_eligibility_traces_do_what_two_points_do():
    finals = [agreement(form, stimuli=100)[0]["cosine"] for form in ("two_point", "eligibility")]
    assert finals[0] == pytest.approx(finals[1], abs=0.02)


def test_traces_need_the_gate():
    gated, open_gate = (agreement("trace", gated=gated, stimuli=100, hold=4) for gated in (True, False))
    assert gated[0]["cosine"] > open_gate[0]["cosine"] + 0.1
    assert open_gate[0]["scale"] > 2 * gated[0]["scale"]
    onset, factor = gated[2]["trace_onset"], gated[2]["trace_third_factor"]
    assert onset.sum() == 6
    assert not factor[~onset].any()
    assert factor[onset].any()
    assert open_gate[2]["trace_third_factor"][~open_gate[2]["trace_onset"]].any()


@pytest.mark.usefixtures("few_shown")
def test_a_seed_is_a_draw():
    first, again, other = (agreement(stimuli=100, seed=seed) for seed in (1, 1, 2))
    assert first[0] == again[0] != other[0]
    assert all(np.array_equal(first[2][name], again[2][name]) for name in first[2])


def test_what_cannot_be_is_refused():
    with pytest.raises(MismatchError, match="stimuli 99, hold 1: give 100 or more"):
        agreement(stimuli=99)
    with pytest.raises(MismatchError, match=r"layers\.0 has no groups"):
        agreement("trace", grouped=False, stimuli=200)
