"""Ranks: by the worst case, only among what was held against a strong attack, only among what was scored alike."""

import random

from segbench.reports.leaderboard.boards import boards
from segbench.reports.leaderboard.columns import columns, natural
from segbench.reports.sanity import explained


def board_of(entries):
    (found,) = boards(entries)
    return found


def names(standings):
    return [standing.entry.model.name for standing in standings]


def test_worst_case_ranks_and_equals_share_a_rank(entries) -> None:
    board = next(board for board in boards(entries) if len(board.standings) == 5)
    (ranking,) = board.rankings
    assert [(s.entry.model.name, s.rank, s.of) for s in ranking.ranked] == [
        ("pspnet sat", 1, 3),
        ("unet sat", 1, 3),
        ("pspnet ddcat", 3, 3),
    ]
    assert names(board.unranked) == ["alpha", "unet none"]  # by name: a weak attack's number buys no place
    assert all("strong attack" in standing.why and standing.rank is None for standing in board.unranked)


def test_order_of_the_entries_does_not_matter(entries) -> None:
    shuffled = entries.copy()
    random.Random(0).shuffle(shuffled)
    assert boards(shuffled) == boards(entries)


def test_a_board_holds_one_dataset_one_subset_one_protocol_one_threat(entries) -> None:
    for board in boards(entries):
        assert len({standing.entry.board for standing in board.standings}) == 1


def test_oblivious_results_do_not_count(entry_of, result_of, attack_sea, attack_bim) -> None:
    through = result_of(attack_sea(), 40.0, strong=True, adaptive=True)
    around = result_of(attack_sea(), 10.0, strong=True, adaptive=False)
    board = board_of(
        [
            entry_of("both", [result_of(None, 70.0), through, around]),
            entry_of("around", [result_of(None, 70.0), around]),
        ]
    )
    assert [(s.entry.model.name, s.entry.worst.mean) for s in board.rankings[0].ranked] == [("both", 40.0)]
    assert board.unranked[0].why == "No result under an attack that counts."
    assert [column.label for column in board.columns] == ["sea", "sea, oblivious"]
    assert any("do not count" in note for note in board.notes)


def test_other_files_are_ranked_apart(entry_of, result_of, attack_sea) -> None:
    results = [result_of(None, 70.0), result_of(attack_sea(), 30.0, strong=True)]
    board = board_of(
        [
            entry_of("a", results),
            entry_of("b", results),
            entry_of("other files", results, fingerprint="0" * 16),
            entry_of("unknown files", results, fingerprint=None),
        ]
    )
    assert [names(ranking.ranked) for ranking in board.rankings] == [["a", "b", "unknown files"], ["other files"]]
    assert board.rankings[0].scored == "files f1e2d3c4b5a69788"
    assert [s.rank for s in board.rankings[1].ranked] == [1]
    assert any("not to be compared" in note for note in board.notes)
    assert any("unknown files" in note and "not known" in note for note in board.notes)


def test_another_convention_for_absent_classes_is_ranked_apart(entry_of, result_of, attack_sea) -> None:
    results = [result_of(None, 70.0), result_of(attack_sea(), 30.0, strong=True)]
    other = entry_of("zero", results)
    other = other.model_copy(update={"protocol": other.protocol.model_copy(update={"absent": "zero"})})
    assert len(board_of([entry_of("skip", results), other]).rankings) == 2


def test_black_box_ranks_without_an_ensemble_and_names_the_source(entry_of, result_of, attack_bim) -> None:
    results = [result_of(None, 70.0), *(result_of(attack_bim(3), 50.0, source=source) for source in ("unet", "fcn"))]
    board = board_of([entry_of("net", results, setting="black-box")])
    assert names(board.rankings[0].ranked) == ["net"]
    assert [column.label for column in board.columns] == ["bim(steps=3) on fcn", "bim(steps=3) on unet"]


def test_images_of_other_networks_are_ranked_apart(entry_of, result_of, attack_bim) -> None:
    made_on = {"a": "unet", "b": "unet", "c": "fcn"}
    entries = [
        entry_of(
            name,
            [result_of(None, 70.0), result_of(attack_bim(3), 50.0, source=source, adaptive=None)],
            setting="black-box",
        )
        for name, source in made_on.items()
    ]
    rankings = board_of(entries).rankings
    assert [names(ranking.ranked) for ranking in rankings] == [["a", "b"], ["c"]]
    assert [ranking.scored for ranking in rankings] == ["images made on unet", "images made on fcn"]


def test_strong_columns_come_first_the_rest_as_people_sort(entry_of, result_of, attack_bim, attack_sea) -> None:
    attacks = [result_of(attack_bim(steps), 40.0) for steps in (10, 9, 100)]
    entry = entry_of("net", [result_of(None, 70.0), *attacks, result_of(attack_sea(), 30.0, strong=True)])
    labels = [column.label for column in columns([entry])]
    assert labels == ["sea", "bim(steps=9)", "bim(steps=10)", "bim(steps=100)"]


def test_columns_never_share_a_name(entry_of, result_of, attack_bim) -> None:
    attack = attack_bim(3)
    shorts = ("bim(steps=3)", "bim-steps-3", "clean", "model")
    results = [result_of(attack.model_copy(update={"short": short}), 40.0) for short in shorts]
    results.append(result_of(attack.model_copy(update={"version": 2}), 40.0))
    found = columns([entry_of("net", [result_of(None, 70.0), *results])])
    taken = [column.name for column in found]
    assert len(set(taken)) == len(taken) == 5
    assert not {"clean", "model"} & set(taken)
    assert {column.label for column in found} >= {"bim(steps=3) version 1", "bim(steps=3) version 2"}


def test_flags_are_told_in_sentences(entries) -> None:
    board = next(board for board in boards(entries) if len(board.standings) == 5)
    assert f"⚑ {explained('zero-loss')}: pspnet ddcat." in board.notes


def test_an_attack_on_chosen_seeds_is_told(entry_of, result_of, attack_sea) -> None:
    clean, one, both = result_of(None, 70.0, 71.0), result_of(attack_sea(), 30.0, strong=True), (29.0, 30.0)
    whole = [clean, result_of(attack_sea(), *both, strong=True)]
    notes = board_of([entry_of("chosen", [clean, one]), entry_of("whole", whole)]).notes
    assert [note for note in notes if "seeds" in note] == [
        "Not all attacks were made on all training seeds of these, whose pages list the runs: chosen."
    ]


def test_natural_order() -> None:
    assert sorted(["a10", "a9", "b", "A2", "0.5", "0.25"], key=natural) == ["0.25", "0.5", "A2", "a9", "a10", "b"]
