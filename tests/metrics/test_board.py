"""The memory that workers share: whole pages, from whoever wrote last, and sums that do not fall."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from edgeproxy.board import GONE_SECONDS, PLACE_BYTES, Board, Shared
from edgeproxy.metrics import Samples

REDIRECTS = ("edgeproxy_redirects_total", ())
TASKS = ("edgeproxy_asyncio_tasks", ())


class Worker:
    """A worker whose numbers a test sets."""

    def __init__(self, board: Board, place: int, now: list[float]) -> None:
        self.numbers: Samples = {REDIRECTS: 0, TASKS: 1}
        self.shared = Shared(lambda: dict(self.numbers), board, place, lambda: now[0])

    def serve(self, redirects: int) -> None:
        self.numbers[REDIRECTS] += redirects


def test_a_place_holds_what_was_written_last() -> None:
    board = Board(2)
    assert board.read(0) == b""
    for content in (b"first", b"second and longer", b"3"):
        board.write(0, content)
        assert board.read(0) == content
    assert board.read(1) == b""


def test_what_does_not_fit_is_refused_and_leaves_what_was_there() -> None:
    board = Board(1)
    board.write(0, b"x" * (PLACE_BYTES // 2 - 100))
    with pytest.raises(ValueError, match="more than a worker's place holds"):
        board.write(0, b"x" * (PLACE_BYTES // 2))
    assert len(board.read(0)) == PLACE_BYTES // 2 - 100


def test_whoever_is_asked_answers_for_all() -> None:
    now = [100.0]
    board = Board(2)
    first, second = Worker(board, 0, now), Worker(board, 1, now)
    first.serve(3)
    second.serve(4)
    second.shared.publish()
    assert first.shared()[REDIRECTS] == second.shared()[REDIRECTS] == 7
    assert first.shared()[TASKS] == 2


def test_no_sum_falls_when_the_sibling_is_asked_next() -> None:
    now = [100.0]
    board = Board(2)
    workers = [Worker(board, place, now) for place in range(2)]
    last = 0.0
    for turn in range(20):
        workers[turn % 2].serve(turn)
        told = workers[turn // 2 % 2].shared()[REDIRECTS]
        assert told >= last
        last = told


def test_what_a_worker_counted_outlives_it_and_its_state_does_not() -> None:
    now = [100.0]
    board = Board(2)
    first, second = Worker(board, 0, now), Worker(board, 1, now)
    second.serve(4)
    second.shared.publish()
    now[0] += GONE_SECONDS - 1
    assert first.shared()[TASKS] == 2
    now[0] += 1
    assert first.shared() == {REDIRECTS: 4, TASKS: 1}
    successor = Worker(board, 1, now)
    successor.serve(1)
    assert successor.shared()[REDIRECTS] == 5
    assert first.shared() == {REDIRECTS: 5, TASKS: 2}


def test_a_page_that_is_read_while_it_is_written_is_whole() -> None:
    board = Board(1)
    pages = [bytes([letter]) * (200_000 + letter) for letter in range(65, 69)]

    def write() -> None:
        for turn in range(400):
            board.write(0, pages[turn % len(pages)])
        os._exit(0)

    writer = multiprocessing.get_context("fork").Process(target=write)
    writer.start()
    whole = 0
    while writer.is_alive():
        content = board.read(0)
        assert content == b"" or content in pages
        whole += bool(content)
    writer.join()
    assert whole
    assert board.read(0) == pages[399 % len(pages)]
