"""Leaderboard entries made from the records of a store. Networks that differ only in their seed become one model.

The worst cases over sets of attacks that a matrix defines are left out: their sets are a choice of its author, and a
board ranks by the worst of all attacks anyway. Every entry of a network holds its result on clean images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from segbench.errors import describe
from segbench.leaderboard import scoring
from segbench.leaderboard.checking import PRECISION
from segbench.leaderboard.composing import Details, compose
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.comparable import condition
from segbench.reports.labels import Labels, NetworkKey, component_key
from segbench.reports.leaderboard.entries import BoardThreat, Entry
from segbench.reports.records import Record
from segbench.reports.sanity import flagged
from segbench.reports.statistics import Counts
from segbench.store import Store
from segbench.store.base import uncollected
from segbench.store.seen import Seen


class Made(NamedTuple):
    """New entries, and a sentence for each reason why evaluations were left out."""

    entries: list[Entry]
    notes: list[str]


def parse_names(pairs: Iterable[str]) -> dict[str, str]:
    """Read pairs OLD=NEW; the names may hold "=" within brackets, such as "pspnet(encoder=tiny) sat"."""
    names = {}
    for pair in pairs:
        splits = ((pair[:at], pair[at + 1 :]) for at, letter in enumerate(pair) if letter == "=")
        old, new = next(((old.strip(), new.strip()) for old, new in splits if _closed(old)), ("", ""))
        if not old or not new:
            raise LeaderboardError(f"--name {pair}: expected OLD=NEW, for instance 'pspnet(encoder=tiny) sat=Tiny SAT'")
        names[old] = new
    return names


def _closed(text: str) -> bool:
    return text.count("(") == text.count(")") and text.count("[") == text.count("]")


@uncollected()
def entries(store: Store, matrices: Sequence[str], details: Details) -> Made:
    """Return entries for the evaluations in a store.

    Args:
        store: the store.
        matrices: names of matrices of the store; all of them if empty.
        details: details that records do not hold.

    Raises:
        LeaderboardError: a matrix or network is unknown, a record does not agree with its counts, a detail is not
            valid, or two entries would have the same path.
    """
    seen = Seen()
    records = _records(store, matrices, seen)
    left_out: dict[str, Counter[str]] = {}
    if unfinished := Counter(record.attack.short for record in records if record.status != "done"):
        left_out["not finished"] = unfinished
    done = [record for record in records if record.status == "done" and record.scores is not None]
    if narrow := Counter(record.attack.short for record in done if record.precision != PRECISION):
        left_out[f"scored in another precision than {PRECISION}"] = narrow
        done = [record for record in done if record.precision == PRECISION]
    if problems := [problem for record in done for problem in _problems(record, store, seen)]:
        raise LeaderboardError("\n".join(problems))
    datasets: dict[str, list[Record]] = {}
    for record in flagged(done, store.measured):
        datasets.setdefault(component_key(record.dataset), []).append(record)

    def counts(digest: str) -> Counts | None:
        return store.counts(digest, seen)

    made: dict[str, Entry] = {}
    known: set[str] = set()
    for own in datasets.values():
        labels = Labels(own)
        called = _called(own, labels)
        known.update(called.values())
        called = {key: details.names.get(name, name) for key, name in called.items()}
        for clean, attacked, threat in _grouped(own, labels, left_out):
            try:
                entry = compose(clean, attacked, threat, counts, labels, called, details)
            except ValidationError as error:
                first = error.errors()[0]
                raise LeaderboardError(f"{first['loc'][0]} {first['input']!r}: {first['msg'].lower()}") from error
            if entry.path in made:
                raise LeaderboardError(
                    f"{store.root}: two entries would be {entry.path}: their data or versions differ, or their names "
                    "are too much alike; choose a matrix with --matrix, or rename with --name"
                )
            made[entry.path] = entry
    if unknown := sorted(set(details.names) - known):
        raise LeaderboardError(f"--name {unknown[0]}: no such network; there are: {', '.join(sorted(known))}")
    return Made(list(made.values()), [_note(reason, attacks) for reason, attacks in left_out.items()])


def _grouped(
    records: Sequence[Record], labels: Labels, left_out: dict[str, Counter[str]]
) -> Iterator[tuple[list[Record], list[Record], BoardThreat]]:
    """Yield the clean records, the attacked records and the threat model of each entry; count others in `left_out`."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        groups.setdefault((*condition(record, labels.component_key), labels.key(record.target)), []).append(record)
    for group in groups.values():
        clean, boards = [], dict[BoardThreat, list[Record]]()
        for record in group:
            threat = _threat(record)
            if record.setting == "clean":
                clean.append(record)
            elif isinstance(threat, str):
                left_out.setdefault(threat, Counter())[record.attack.short] += 1
            else:
                boards.setdefault(threat, []).append(record)
        for threat, attacked in boards.items():
            if clean:
                yield clean, attacked, threat
            else:
                reason = "of networks that were not evaluated on clean images"
                left_out.setdefault(reason, Counter()).update(record.attack.short for record in attacked)


def _records(store: Store, matrices: Sequence[str], seen: Seen) -> list[Record]:
    known = store.manifests()
    for name in matrices:
        if name not in known:
            raise LeaderboardError(f"{name}: no such matrix in store {store.root}, which holds: {', '.join(known)}")
    if not known:
        raise LeaderboardError(f"{store.root}: no matrix was run in this store")
    manifests = [found for name in matrices or known if (found := store.manifest(name, seen=seen)) is not None]
    return list({record.digest: record for manifest in manifests for record in manifest.records}.values())


def _problems(record: Record, store: Store, seen: Seen) -> list[str]:
    """Return where a record disagrees with the counts that lie beside it; a store may come from elsewhere."""
    folder = store.eval_dir(record.digest)
    try:
        counts, names = store.counts(record.digest, seen), store.image_names(record.digest, seen)
        parts, tallies = store.parts(record.digest, seen), store.tallies(record.digest, seen)
    except (KeyError, TypeError, ValueError) as error:
        return [f"{folder / 'counts.npz'}: holds no counts ({describe(error)}); delete {folder} to make it again"]
    if counts is None or names is None:
        return []
    files = str(folder / "record.json"), str(folder / "counts.npz")
    return list(scoring.counted(record, counts, names, parts if len(parts) > 1 else (), files, tallies))


def _called(records: Sequence[Record], labels: Labels) -> dict[NetworkKey, str]:
    """Return the default name of each network: architecture and defense, and its recipe if two would share a name."""
    networks = {labels.key(network): network for record in records for network in (record.target, record.source)}
    plain = {key: f"{network.model.short} {network.defense.short}" for key, network in networks.items()}
    times = Counter(plain.values())
    called = {}
    for key, network in networks.items():
        _, bracket, variant = labels.defense(network).partition(" [")
        called[key] = f"{plain[key]}{bracket}{variant}" if times[plain[key]] > 1 else plain[key]
    return called


def _threat(record: Record) -> BoardThreat | str:
    """Return the threat model of a record's board, or the reason why the record belongs on no board."""
    threat = record.threat
    if threat.access == "none":
        return BoardThreat(setting="corruptions")
    if threat.region is not None:
        return "limited to a region or after certain objects, and not after mIoU within a norm"
    if not threat.eps or threat.norm is None:
        return "not bounded by an eps"
    if record.attack.options.get("target") is not None:
        return "targeted, after certain labels and not after mIoU"
    setting = "black-box" if record.setting == "black-box" else "white-box"
    return BoardThreat.model_validate({"setting": setting, "norm": threat.norm, "eps": threat.eps})


def _note(reason: str, attacks: Counter[str]) -> str:
    number = attacks.total()
    named = ", ".join(sorted(attacks))
    return f"left out: {number} evaluation{'s' * (number > 1)}, {reason}: {named}"
