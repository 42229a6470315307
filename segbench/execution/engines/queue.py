"""What SLURM's queue tells of the tasks that a run waits for: which vanished, and why others wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from segbench.execution.engines import sbatch


class Queue:
    """Remembers what SLURM's queue has told: it may miss a task once, and what is known need not be said again."""

    def __init__(self) -> None:
        self._missing: set[str] = set()
        self._reasons: set[str] = set()
        self._deaf = False

    def look(self, names: Sequence[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
        """Look for tasks in the queue.

        Args:
            names: of the tasks.

        Returns:
            Those that are not there, twice in a row, with SLURM's word for their ending and the node that they ran on,
            each "" where SLURM has forgotten it; and what the user should know, a sentence each.
        """
        queued = sbatch.alive()
        if queued is None:
            told = [] if self._deaf else ["SLURM does not answer; jobs go on, and so does waiting for them"]
            self._deaf = True
            return {}, told
        self._deaf = False
        before, self._missing = self._missing, set(names) - set(queued)
        vanished = [name for name in names if name in self._missing and name in before]
        verdicts = sbatch.verdicts(vanished) if vanished else {}
        return {name: verdicts.get(name, ("", "")) for name in vanished}, list(self._why(names, queued))

    def _why(self, names: Sequence[str], queued: Mapping[str, str]) -> Iterator[str]:
        """Say, once, why SLURM keeps jobs waiting for longer than until others have ended."""
        why: dict[str, list[str]] = {}
        for name in names:
            why.setdefault(queued.get(name, ""), []).append(name)
        for reason in why.keys() - sbatch.USUAL - self._reasons:
            self._reasons.add(reason)
            jobs = f"{len(why[reason])} job{'s' * (len(why[reason]) > 1)}"
            yield f"SLURM keeps {jobs} waiting ({reason}); see scontrol show job {why[reason][0]}"
