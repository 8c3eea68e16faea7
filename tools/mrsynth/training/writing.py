"""What all handlers share that write a network's results."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ignite.engine import Engine, Events
from tqdm import tqdm


class ResultWriter(ABC):
    """Ignite handler that writes after each iteration and shows a progress bar; a subclass defines what and how many.

    Attributes:
        bar: to be updated by one for each result.
    """

    bar: tqdm

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.STARTED, self._open_bar)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._close_bar)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_bar)

    @abstractmethod
    def __call__(self, engine: Engine) -> None:
        """Write the results of the iteration that has just ended."""

    @abstractmethod
    def make_bar(self, engine: Engine) -> tqdm:
        """The bar of a run that is about to begin."""

    def _open_bar(self, engine: Engine) -> None:
        self.bar = self.make_bar(engine)

    def _close_bar(self, engine: Engine, error: BaseException | None = None) -> None:
        self.bar.close()
        if error is not None:
            raise error
