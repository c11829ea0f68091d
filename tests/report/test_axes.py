import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.report.axes import Axis, around

finite = st.floats(-1e6, 1e6)


@given(finite, st.floats(1e-3, 1e6), st.booleans())
def test_ticks_lie_on_the_axis_and_are_few(low, span, log):
    low = abs(low) + 1e-3 if log else low
    axis = Axis(low=low, high=low + span, start=0.0, end=100.0, log=log)
    ticks = axis.ticks()
    assert len(ticks) <= 8
    assert list(ticks) == sorted(set(ticks))
    slack = 1e-6 * (abs(low) + span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


@given(st.lists(st.floats(0, 1), max_size=5))
def test_range_is_never_empty_and_within_limits(values):
    low, high = around(values, (0.0, 1.0))
    assert 0 <= low < high <= 1
    assert all(low <= value <= high for value in values)


def test_an_axis_that_rises_puts_greater_values_higher():
    axis = Axis(low=0.0, high=1.0, start=250, end=0)
    assert axis.place(0.9) < axis.place(0.1)


@pytest.mark.parametrize("limits", [(float("inf"), 0.0), (0.0, float("inf"))])
def test_infinite_limits_do_not_bind(limits):
    assert around([0.5, 1.5], limits, margin=0.1) == (0.4, 1.6)
