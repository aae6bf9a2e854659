"""The reservoir that remembers and compares: what it recalls, which labels it finds alike, what is pooled."""

import pytest
import torch

from infohebb.errors import UsageError
from infohebb.networks.comparing import LITTLE, Channels, Gains, comparing_wiring, line_leak, recalling
from infohebb.networks.reservoir import Reservoir

CHANNELS, WINDOW, UNITS = Channels(2, 3, 2), 3, 5
REMEMBERED, WIDTH = WINDOW - 1, 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stream(count=12):
    labels = torch.randint(3, (count,), generator=seeded(1))
    x, z = (torch.randn(count, 2, generator=seeded(seed)) for seed in (2, 3))
    return x, torch.eye(3)[labels], z


def rates(stages, **options):
    """Rates at the end of each sample, cut into parts."""
    wiring = comparing_wiring(CHANNELS, WINDOW, UNITS, stages=stages, chance=seeded(), **options)
    lengths = [WIDTH * stages, REMEMBERED * WIDTH, REMEMBERED * 3, REMEMBERED * UNITS, UNITS]
    assert len(wiring.leak) == sum(lengths)
    found = Reservoir(wiring._replace(readable=len(wiring.leak))).drive(torch.cat(stream(), 1))
    return dict(zip(("line", "recall", "alike", "compare", "pool"), found.split(lengths, -1), strict=True))


@pytest.mark.parametrize(("stages", "error"), [(41, 1e-4), (24, 0.05), (12, 0.25)])
def test_it_recalls_the_samples_of_its_window(stages, error):
    recall = rates(stages)["recall"].view(12, REMEMBERED, WIDTH) / LITTLE
    samples = torch.cat(stream(), 1)
    for lag in (1, 2):
        torch.testing.assert_close(recall[6:, lag - 1], samples[6 - lag : -lag], rtol=0, atol=error)


def test_alike_units_say_whether_the_labels_are():
    alike, y = rates(41)["alike"].view(12, REMEMBERED, 3), stream()[1]
    for lag in (1, 2):
        both = (y[6:] * y[6 - lag : -lag]).bool()
        assert bool((alike[6:, lag - 1][both] > 0.9).all())
        assert bool((alike[6:, lag - 1][~both] < -0.9).all())
        assert both.any()


def test_compare_units_are_the_random_ones_that_they_are_meant_to_be():
    gains = Gains(0.7, 0.5, 2.0, 1.0, 0.6)
    parts, (x, _, z) = rates(41, gains=gains), stream()
    chance = seeded()
    of_z, of_x = (torch.randn(2, UNITS, generator=chance) * gain / 2**0.5 for gain in (0.7, 0.5))
    of_alike, of_count, bias = (torch.randn(UNITS, generator=chance) * gain for gain in (2.0, 1.0, 0.6))
    compare = parts["compare"].view(12, REMEMBERED, UNITS)
    alike = parts["alike"].view(12, REMEMBERED, 3)
    for n in range(6, 12):
        count = alike[n].sum() / REMEMBERED * of_count
        for lag in (1, 2):
            drive = (z[n] - z[n - lag]) @ of_z + (x[n] - x[n - lag]) @ of_x + alike[n, lag - 1].sum() * of_alike
            expected = torch.tanh(drive + count + bias)
            torch.testing.assert_close(compare[n, lag - 1], expected, rtol=0, atol=2e-3)


def test_pooled_units_sum_over_the_remembered_samples_and_are_all_that_is_read():
    parts = rates(41)
    summed = parts["compare"].view(12, REMEMBERED, UNITS).sum(1)
    torch.testing.assert_close(parts["pool"][6:] / LITTLE, summed[6:], rtol=0, atol=2e-3)
    wiring = comparing_wiring(CHANNELS, WINDOW, UNITS, chance=seeded())
    assert wiring.readable == UNITS
    assert not wiring.weights.feedback.any()


def test_what_is_older_than_the_window_is_forgotten():
    wiring = comparing_wiring(CHANNELS, WINDOW, UNITS, stages=41, chance=seeded())
    one = torch.cat(stream(), 1)
    other = one.clone()
    other[:6] = one[6:]  # another past, further back than the window
    found, changed = (Reservoir(wiring).drive(s)[9:] for s in (one, other))
    torch.testing.assert_close(found, changed, rtol=0, atol=1e-7)
    other[8] = one[0]
    assert not torch.allclose(found, Reservoir(wiring).drive(other)[9:], rtol=0, atol=1e-5)


def test_wide_ones_are_sparse_and_do_the_same(monkeypatch):
    dense = comparing_wiring(CHANNELS, WINDOW, UNITS, chance=seeded())
    monkeypatch.setattr("infohebb.networks.comparing.DENSE", 10)
    sparse = comparing_wiring(CHANNELS, WINDOW, UNITS, chance=seeded())
    assert sparse.weights.recurrent.is_sparse
    assert not dense.weights.recurrent.is_sparse
    samples = torch.cat(stream(), 1)
    torch.testing.assert_close(Reservoir(sparse).drive(samples), Reservoir(dense).drive(samples))


def test_a_line_of_as_many_stages_as_steps_delays_exactly():
    assert line_leak(3, 41, 20) == 1.0
    assert line_leak(3, 10, 20) == pytest.approx(0.2)
    assert recalling(3, 41, 20).shape == (2, 41)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"window": 1}, "window 1"), ({"units": 0}, "units 0"), ({"hold": 2}, "hold 2"), ({"stages": 0}, "stages 0")],
)
def test_what_cannot_be_wired_is_refused(options, told):
    with pytest.raises(UsageError, match=told):
        comparing_wiring(CHANNELS, **{"window": 2, **options})
