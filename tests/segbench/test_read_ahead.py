from __future__ import annotations

import threading
import time

import pytest
import torch

from segbench.read_ahead import ReadAhead, fitting, waiting


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_items_come_in_the_order_of_their_keys_whoever_reads_them(threads: int) -> None:
    def read(key: int) -> int:
        time.sleep(0.002 * (5 - key))
        return key * key

    assert list(ReadAhead(read, range(5), threads=threads, ahead=3)) == [0, 1, 4, 9, 16]


def test_no_more_is_read_than_was_asked_for() -> None:
    begun: list[int] = []
    reads = ReadAhead(lambda key: begun.append(key) or key, range(100), threads=1, ahead=4)
    items = iter(reads)
    next(items)
    time.sleep(0.05)
    assert len(begun) == 5
    reads.ahead = 6
    next(items)
    time.sleep(0.05)
    assert len(begun) == 8
    items.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("read-ahead")]


def test_the_second_item_is_read_while_the_first_is_worked_on() -> None:
    read = threading.Event()
    items = iter(ReadAhead(lambda key: read.set() if key else None, range(2), threads=1, ahead=1))
    next(items)
    assert read.wait(10)


def test_an_error_comes_where_its_item_would() -> None:
    def read(key: int) -> int:
        if key == 2:
            raise ValueError("damaged")
        return key

    items = iter(ReadAhead(read, range(5), threads=2, ahead=5))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="damaged"):
        next(items)


def test_waiting_is_the_time_without_an_item() -> None:
    def read(key: int) -> int:
        time.sleep(0.05)
        return key

    slow, busy = (ReadAhead(read, range(4), threads=1, ahead=4) for _ in range(2))
    for _ in slow:
        pass
    for _ in busy:
        time.sleep(0.1)
    assert slow.waited > 0.15
    assert busy.waited < slow.waited
    assert waiting("bim on none", 10.0, 0.125) == "bim on none: 10.0 s, of which the network waited 1.2% for images"


def test_threads_that_read_do_not_change_those_that_compute() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        of_readers = set(ReadAhead(lambda key: torch.get_num_threads(), range(3), threads=2, ahead=2))
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (of_readers, torch.get_num_threads(), later) == ({1}, 3, [3])
    finally:
        torch.set_num_threads(before)


def test_one_thread_reads_beside_a_processor_unless_another_number_is_asked_for() -> None:
    assert fitting(None, torch.device("cpu")) == 1
    assert fitting(0, torch.device("cpu")) == 0
