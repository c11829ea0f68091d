"""A job in the making: a Config and the companions that may run beside it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fewshot_automl.oracle.oracle import History
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.study.parts import Cohorts


@dataclass(slots=True, kw_only=True)
class Draft:
    """Takes what is offered as long as the job stays allowed and fits the time."""

    cohorts: Cohorts
    """Says how large the job may be."""
    space: Space
    """Where companions must lie."""
    history: History
    """Every trial that counts; none of their Configs is taken."""
    forecast: Callable[[Config, History], float]
    """The expected seconds of a Config as its share of a job; it sees the rest of the
    job as running."""
    seconds_left: Callable[[], float]
    """Asked anew each time."""
    room: int
    """How many trials the job may hold."""
    configs: list[Config]
    """The trials of the job so far, at least one."""
    seconds: list[float]
    """Their expected seconds."""

    def offer(self, candidates: Iterable[Config]) -> None:
        """Take of the candidates, in order, what may run beside those taken before."""
        tried = {config for config, _ in self.history}
        for config in candidates:
            if len(self.configs) >= self.room:
                return
            if config in tried or config in self.configs or not self._suits(config):
                continue
            expected = self.forecast(config, self.shown())
            if sum(self.seconds) + expected <= self.seconds_left():
                self.configs.append(config)
                self.seconds.append(expected)
                self.room = min(self.room, self.cohorts.size(config))

    def missing(self) -> int:
        """Return how many more could join, if each costs what another first would."""
        most = float(self.room - len(self.configs))
        each = self.forecast(self.configs[0], self.shown())
        if each > 0:
            most = min(most, (self.seconds_left() - sum(self.seconds)) / each)
        return max(0, int(most))

    def shown(self) -> list[tuple[Config, Outcome]]:
        """Return the history as it will be once the job has started."""
        running = Outcome(status="running")
        return [*self.history, *((config, running) for config in self.configs)]

    def final(self) -> tuple[Config, ...]:
        """Return as much of the job as still fits the time; it may be nothing."""
        left = self.seconds_left()
        while self.configs and (left <= 0 or sum(self.seconds) > left):
            self.configs.pop()
            self.seconds.pop()
        return tuple(self.configs)

    def _suits(self, config: Config) -> bool:
        return self.space.contains(config) and (
            self.cohorts.size(config) > len(self.configs)
        )
