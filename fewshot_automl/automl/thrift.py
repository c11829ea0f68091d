"""An oracle that is asked only for what the time left can pay."""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fewshot_automl.automl.limits import Limits, allowed_space
from fewshot_automl.oracle.oracle import Oracle, tried
from fewshot_automl.oracle.part import Part
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Choice, Config, Int, Space
from fewshot_automl.trial.design import probed_backbones
from fewshot_automl.trial.forecast import Forecast, Prices
from fewshot_automl.trial.workload import is_dear

THRIFT: Final = ("steps", "batch_size")
"""Dimensions that are lowered in a suggestion that is too dear."""
QUICK_SECONDS: Final = 2.0
"""Always granted to a trial, lest a plan without dear trials forbid quick ones."""
USED_SHARE: Final = 0.9
"""Of the time left that a trial may be expected to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thrifty:
    """Narrows the space to what can be paid for, then asks another oracle.

    Methods and backbones whose cheapest form is too dear are left out, steps are
    bounded by what a default trial on the best backbone may cost, and what is
    suggested beyond that is shortened until it fits. What does not fit in any form is
    not suggested.
    """

    oracle: Oracle
    """Who is asked."""
    forecast: Forecast
    """What trials cost, as learnt from those so far."""
    dear_seconds: float | None
    """Most for any one trial; None without limit."""
    seconds_left: Callable[[History], float]
    """Time for trials that is left, given the history."""
    limits: Limits = ()
    """What the model must keep; backbones that break them are not suggested."""

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` Configs that can be paid for.

        Of a list that is given as `within` nothing is shortened; what cannot be paid
        for is left out.
        """
        prices = self.forecast.after(history)
        limit = self._limit(history)
        if within is not None and not isinstance(within, Space):
            allowed = allowed_space(space, history, self.limits)
            pool = [c for c in within if allowed.contains(c)] or within
            pool = [c for c in pool if prices.trial_seconds(c) <= limit]
            return self.oracle.suggest(space, history, n, seed, pool) if pool else []
        allowed = allowed_space(within or space, history, self.limits)
        inside = affordable_space(allowed, prices, history, limit)
        if inside is None:
            return []
        return self._found(space, history, n, seed, inside, limit)

    def leaves_out(self, space: Space, history: History) -> bool:
        """Return whether there is more in a space than can be paid for now.

        Then a search that has nothing left to suggest ended for want of time.
        """
        allowed = allowed_space(space, history, self.limits)
        prices, limit = self.forecast.after(history), self._limit(history)
        return affordable_space(allowed, prices, history, limit) != allowed

    def _limit(self, history: History) -> float:
        """Return the most that a trial may be expected to take."""
        limit = USED_SHARE * self.seconds_left(history)
        if self.dear_seconds is None:
            return limit
        return min(limit, max(self.dear_seconds, QUICK_SECONDS))

    def _found(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        inside: Space,
        limit: float,
    ) -> list[Config]:
        """Return up to `n` Configs of a space, shortened where need be.

        What cannot be paid in any form is shown as running, lest it come again. Then
        one method after the other is asked for, on the backbones it can be paid on.
        """
        prices = self.forecast.after(history)
        seen = tried(history)
        found: dict[Config, None] = {}
        shown = list(history)
        methods = _by_method(inside, prices, limit)
        parts: Iterator[Space] = itertools.chain((inside, inside), methods)
        for attempt, part in enumerate(parts):
            if attempt and self.seconds_left(history) <= 0:
                break
            missing = n - len(found)
            asked = self.oracle.suggest(space, shown, missing, seed + attempt, part)
            for config in asked:
                shorter = shortened(space, config, prices, limit)
                if shorter is not None and shorter not in seen:
                    found[shorter] = None
                shown.append((config, Outcome(status="running")))
            if len(found) >= n:
                break
        return list(found)[:n]


def affordable_space(
    space: Space, prices: Prices, history: History, limit: float
) -> Space | None:
    """Return the part of a space whose trials may take `limit` seconds.

    Args:
        space: The study's, or part of it.
        prices: What trials cost.
        history: Trials so far.
        limit: Seconds for one trial.

    Returns:
        None if nothing fits.
    """
    cheapest = {
        name: _fitting(space, name, prices, limit) for name in _options(space, "method")
    }
    methods = [name for name, found in cheapest.items() if found]
    if not methods:
        return None
    narrowed = space.narrow("method", methods)
    backbones = {b for name in methods for b in cheapest[name] if b is not None}
    if "backbone" in narrowed and backbones:
        kept = [b for b in _options(space, "backbone") if b in backbones]
        narrowed = narrowed.narrow("backbone", kept)
    return _fewer_steps(narrowed, prices, history, limit)


def _by_method(space: Space, prices: Prices, limit: float) -> Iterator[Space]:
    """Yield the part of each method with the backbones on which it can be paid."""
    for method in _options(space, "method"):
        part = space.narrow("method", [method])
        fitting = [name for name in _fitting(space, method, prices, limit) if name]
        yield part.narrow("backbone", fitting) if fitting else part


def shortened(
    space: Space, config: Config, prices: Prices, limit: float
) -> Config | None:
    """Return a Config, with fewer and smaller steps if need be; None if none fits."""
    if prices.trial_seconds(config) <= limit:
        return config
    for name in THRIFT:
        if name not in config:
            continue
        dimension = space[name]
        assert isinstance(dimension, Int)
        forms = _forms(config, dimension, int(config[name]))
        if found := _dearest(forms, prices, limit):
            return found
        config = forms[0]
    return None


def _fitting(
    space: Space, method: str, prices: Prices, limit: float
) -> list[str | None]:
    """Return the backbones on which some form of a method fits; None for no need."""
    found: list[str | None] = []
    plain = space.default(method=method)
    backbones = _options(space, "backbone") if "backbone" in plain else (None,)
    for backbone in backbones:
        values = {} if backbone is None else {"backbone": backbone}
        config = space.default(method=method, **values)
        if shortened(space, config, prices, limit) is not None:
            found.append(backbone)
    return found


def _fewer_steps(space: Space, prices: Prices, history: History, limit: float) -> Space:
    """Return the space with so many steps at most as a default trial may have."""
    if "steps" not in space:
        return space
    steps = space["steps"]
    assert isinstance(steps, Int)
    backbone = probed_backbones(space, history)[0]
    most = steps.low
    for method in _options(space, "method"):
        plain = space.default(method=method, backbone=backbone)
        if not is_dear(plain):
            continue
        forms = _forms(plain, steps, steps.high)
        if found := _dearest(forms, prices, limit):
            most = max(most, int(found["steps"]))
    return space.narrow("steps", (steps.low, max(most, steps.low + 1)))


def _forms(config: Config, dimension: Int, high: int) -> list[Config]:
    """Return a Config with every value of a dimension up to one."""
    return [
        Config.of({**config.to_json(), dimension.name: value})
        for value in range(dimension.low, high + 1)
    ]


def _dearest(forms: Sequence[Config], prices: Prices, limit: float) -> Config | None:
    """Return the last of some Configs of rising cost that fits; None if none does."""
    fitting = bisect_right(forms, limit, key=prices.trial_seconds)
    return forms[fitting - 1] if fitting else None


def _options(space: Space, name: str) -> Sequence[str]:
    if name not in space:
        return ()
    dimension = space[name]
    assert isinstance(dimension, Choice)
    return dimension.options
