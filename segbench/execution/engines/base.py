"""The seam between a plan and the machines that carry it out.

An engine takes a job as data and returns a future of how it ended. Everything else lies in the store: a job reads
networks and checkpoints there, and leaves weights, records, failures and its progress there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

from segbench.execution.board import Ended, Job
from segbench.execution.workers import Update


class Lost(Exception):
    """A job's process, node or place in a queue is gone; the job can be submitted again."""


class Refused(Lost):
    """A machine cannot do a job, or not yet; another one may, or the same one later."""


class Unfit(Refused):
    """A machine can do no job of this run: it lacks something that the others have."""


def outcome_of(inner: Future[Any], outcome: Callable[[Future[Any]], Ended]) -> Future[Ended]:
    """Return a future that ends when another one does.

    Args:
        inner: the other one.
        outcome: itself, ended -> how the job ended; what it raises is raised by the future.
    """
    outer: Future[Ended] = Future()

    def pass_on(ended: Future[Any]) -> None:
        try:
            outer.set_result(outcome(ended))
        except Exception as error:
            outer.set_exception(error)

    inner.add_done_callback(pass_on)
    return outer


class Engine(Protocol):
    """Something that does jobs.

    Attributes:
        slots: jobs that are submitted at once, at most.
        tries: how often a job is submitted that gets lost each time.
        advice: what may help when a job got lost that often.
    """

    @property
    def slots(self) -> int: ...  # noqa: D102 - see the attributes

    @property
    def tries(self) -> int: ...  # noqa: D102 - see the attributes

    @property
    def advice(self) -> str: ...  # noqa: D102 - see the attributes

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def offer(self, jobs: Mapping[str, Job]) -> None:
        """Hear of all jobs before the first is submitted."""
        ...

    def submit(self, key: str, job: Job) -> Future[Ended]:
        """Start a job whose trainings are done; the future raises `Lost` or `Stopped`."""
        ...

    def news(self) -> Iterable[Update | str]:
        """Return what jobs have told since the last call."""
        ...

    def stop(self) -> None:
        """Ask all jobs to write their checkpoints and end."""
        ...
