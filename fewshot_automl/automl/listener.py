"""How a fit tells what it is doing."""

from typing import Protocol, runtime_checkable

from fewshot_automl.study import Event


@runtime_checkable
class Listener(Protocol):
    """Is told, in order, all that happens during a fit; the CLI draws it."""

    def say(self, sentence: str) -> None:
        """Take a sentence for the user: an inference, a finding, a stage."""
        ...

    def trial(self, event: Event) -> None:
        """Take the start or the end of a trial."""
        ...


class Silence:
    """Tells nobody."""

    def say(self, sentence: str) -> None:
        """Do nothing."""

    def trial(self, event: Event) -> None:
        """Do nothing."""
