from __future__ import annotations

import os
import time
from pathlib import Path

from segbench.reports.atomic import FORGOTTEN, MACHINE, is_temporary, left_behind


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
