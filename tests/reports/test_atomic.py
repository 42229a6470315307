from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from segbench.reports.atomic import FORGOTTEN, MACHINE, is_temporary, left_behind, write


def test_unfinished_files_of_another_machine_are_left_alone_for_a_day(tmp_path: Path) -> None:
    gone = next(number for number in range(2**22 - 1, 1, -1) if not Path(f"/proc/{number}").exists())
    other = f"{int(MACHINE, 16) ^ 1:08x}"
    own, foreign = (tmp_path / f".record.json.on-{machine}.{gone}.0a1b2c3d.tmp" for machine in (MACHINE, other))
    for path in (own, foreign):
        path.touch()
        assert is_temporary(path)
    assert left_behind(own)
    assert not left_behind(foreign)
    os.utime(foreign, times=(time.time() - FORGOTTEN - 1,) * 2)
    assert left_behind(foreign)
    foreign.unlink()
    assert not left_behind(foreign)


def test_a_full_disk_is_said_with_the_file_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"record\.json"):
        write(tmp_path / "record.json", "all")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_written_to_and_a_link_stays_one(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write(pipe, "one")
    reader.join(10)
    assert heard == ["one"]
    assert pipe.is_fifo()
    file.write_text("before")
    link.symlink_to(file)
    write(link, "after")
    assert link.is_symlink()
    assert file.read_text() == "after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]
