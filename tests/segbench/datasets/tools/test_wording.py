from __future__ import annotations

from segbench.datasets.tools.wording import count, fold


def test_names_are_counted() -> None:
    assert count(["a.txt"], "file") == "1 file (a.txt)"
    assert count(["a", "b"], "class") == "2 classes (a, b)"
    assert count(["a.txt", "b.npy", *"cdefghijkl"], "file") == "12 files (a.txt, b.npy and 10 more)"
    assert count(["caf\udce9"], "file") == "1 file (caf\\udce9)"


def test_like_lines_are_folded_and_others_kept() -> None:
    missing = [f"masks/{index}.png: no such file, but sample '{index}' needs it" for index in range(70)]
    others = ["a.png: has mode RGB", "b.png: has mode CMYK"]
    folded = fold([others[0], *missing, others[1]])
    assert folded == [others[0], *missing[:3], "... and 67 more lines like the last", others[1]]
    assert fold(missing[:4]) == missing[:4]
    assert fold([others[0]] * 9) == others[:1]
