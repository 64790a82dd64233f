"""One thread, in order, nothing after the end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from napari_sightline.viewer.worker import Job, Worker, apart


@pytest.fixture
def worker(qapp: Any) -> Any:
    made = Worker()
    yield made
    made.stop()


def test_jobs_run_in_order_beside_the_main_thread(worker: Worker, qtbot: Any) -> None:
    heard: list[Any] = []
    for number in range(5):
        worker.submit(
            Job(lambda _, n=number: (n, threading.current_thread()), heard.append, kind="count")
        )
    assert len(worker.jobs) == 5
    qtbot.waitUntil(lambda: len(heard) == 5)
    assert [n for n, _ in heard] == list(range(5))
    assert {thread for _, thread in heard} != {threading.main_thread()}
    assert len({thread for _, thread in heard}) == 1
    assert worker.jobs == ()


def test_faults_come_back_and_the_next_job_runs(worker: Worker, qtbot: Any) -> None:
    faults: list[Exception] = []
    results: list[int] = []

    def broken(_: Job[int]) -> int:
        raise ValueError("broken")

    worker.submit(Job(broken, results.append, faults.append))
    worker.submit(Job(lambda _: 2, results.append, faults.append))
    qtbot.waitUntil(lambda: results == [2])
    assert [str(fault) for fault in faults] == ["broken"]


def test_what_is_handed_over_comes_after_the_latest_progress(
    worker: Worker, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports that follow too soon are dropped; the one before a long wait must not be."""
    monkeypatch.setattr("napari_sightline.viewer.worker._BEAT", 600.0)
    words: list[str] = []
    worker.progressed.connect(lambda _, word: words.append(word))
    go = threading.Event()

    def work(job: Job[None]) -> None:
        for k in range(20):
            job.progress(k / 100, f"step {k}")
        job.tell("part")
        go.wait(60)

    job = Job(work)
    job.partly = words.append
    worker.submit(job)
    qtbot.waitUntil(lambda: "part" in words)
    assert words == ["step 0", "step 19", "part"]
    go.set()
    qtbot.waitUntil(lambda: not worker.jobs)


def test_progress_and_cancel(worker: Worker, qtbot: Any) -> None:
    shares: list[tuple[float, str]] = []
    worker.progressed.connect(lambda share, word: shares.append((share, word)))
    begun, results = threading.Event(), []

    def work(job: Job[str]) -> str:
        job.progress(1.0, "half")
        begun.set()
        while not job.cancelled():
            begun.wait(0.01)
        return "stopped"

    job = worker.submit(Job(work, results.append))
    qtbot.waitUntil(begun.is_set)
    job.cancel()
    qtbot.waitUntil(lambda: results == ["stopped"])
    assert shares == [(1.0, "half")]


def test_nothing_is_heard_after_stop(worker: Worker, qtbot: Any) -> None:
    begun, go, saved, heard = threading.Event(), threading.Event(), threading.Event(), []

    def work(_: Job[int]) -> int:
        begun.set()
        go.wait(5)
        return 1

    worker.submit(Job(work, heard.append))
    worker.submit(Job(lambda _: heard.append("ran")))
    worker.submit(Job(lambda _: saved.set(), lasting=True))
    qtbot.waitUntil(begun.is_set)
    worker.stop()
    go.set()
    qtbot.waitUntil(saved.is_set)  # what must not get lost is done all the same
    qtbot.wait(50)
    assert heard == [] and worker.jobs == ()
    worker.submit(Job(lambda _: 3, heard.append))
    qtbot.waitUntil(lambda: heard == [3])


def test_what_lasts_is_done_in_order_and_before_a_new_workers_first_job(
    worker: Worker, qapp: Any, qtbot: Any
) -> None:
    go, done, heard = threading.Event(), list[str](), list[Any]()

    def first(job: Job[None]) -> None:
        go.wait(30)
        done.append("cancelled" if job.cancelled() else "first")

    worker.submit(Job(first, heard.append, lasting=True))
    worker.submit(Job(lambda _: done.append("dropped"), heard.append))
    worker.submit(Job(lambda _: done.append("second"), heard.append, lasting=True))
    worker.stop()
    later = Worker()
    later.submit(Job(lambda _: done.append("later"), heard.append))
    qtbot.wait(50)
    assert done == []
    go.set()
    qtbot.waitUntil(lambda: len(heard) == 1)
    later.stop()
    assert done == ["first", "second", "later"]


def test_a_new_worker_does_not_wait_for_what_was_only_cancelled(
    worker: Worker, qapp: Any, qtbot: Any
) -> None:
    go, heard = threading.Event(), list[int]()
    worker.submit(Job(lambda _: go.wait(60)))
    worker.stop()
    later = Worker()
    later.submit(Job(lambda _: 1, heard.append))
    qtbot.waitUntil(lambda: heard == [1])
    go.set()
    later.stop()


def test_a_program_that_ends_waits_for_what_lasts_and_for_nothing_else() -> None:
    code = (
        "from qtpy.QtCore import QCoreApplication\n"
        "from napari_sightline.viewer.worker import Job, Worker\n"
        "app, saving, idle = QCoreApplication([]), Worker(), Worker()\n"
        "def save(job): print(job.pause(0.5))\n"
        "saving.submit(Job(save, lasting=True))\n"
        "idle.submit(Job(lambda job: job.pause(1000)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=55
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_results_are_let_go(worker: Worker, qtbot: Any) -> None:
    class Large:
        pass

    kept: list[Any] = []
    worker.submit(Job(lambda _: Large(), lambda large: kept.append(weakref.ref(large))))
    qtbot.waitUntil(lambda: bool(kept))
    qtbot.wait(20)
    gc.collect()
    assert kept[0]() is None


def test_apart_returns_and_raises(qtbot: Any) -> None:
    from qtpy.QtWidgets import QWidget

    assert apart(threading.current_thread) is threading.main_thread()  # nothing to keep drawn
    window = QWidget()
    qtbot.addWidget(window)
    window.show()
    assert apart(threading.current_thread) is not threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)


def test_work_tells_before_it_is_done_unless_cancelled(worker: Worker, qtbot: Any) -> None:
    heard: list[Any] = []
    going = threading.Event()

    def work(job: Job[str]) -> str:
        job.tell(1)
        going.wait(10)
        job.tell(2)
        return "done"

    job = Job(work, heard.append)
    job.partly = heard.append
    worker.submit(job)
    qtbot.waitUntil(lambda: heard == [1])
    job.cancel()
    going.set()
    qtbot.waitUntil(lambda: heard == [1, "done"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows a niceness of threads")
def test_the_window_goes_first(worker: Worker, qtbot: Any) -> None:
    heard: list[int] = []
    worker.submit(Job(lambda _: os.getpriority(os.PRIO_PROCESS, 0), heard.append))
    qtbot.waitUntil(lambda: len(heard) == 1)
    assert heard[0] > os.getpriority(os.PRIO_PROCESS, 0)


def test_a_pause_ends_with_a_cancel(worker: Worker, qtbot: Any) -> None:
    heard: list[bool] = []
    job = worker.submit(Job(lambda job: job.pause(60), heard.append))
    worker.submit(Job(lambda job: job.pause(0.01), heard.append))
    job.cancel()
    qtbot.waitUntil(lambda: heard == [True, False])


def test_a_settled_job_waits_until_all_before_it_was_heard(worker: Worker, qtbot: Any) -> None:
    heard: list[int] = []
    seen: list[list[int]] = []

    def fault(_: Exception) -> None:
        heard.append(2)

    worker.submit(Job(lambda _: 1, heard.append))
    worker.submit(Job(lambda _: 1 // 0, None, fault))
    worker.submit(Job(lambda _: list(heard), seen.append, settled=True))
    time.sleep(0.1)  # the main thread hears of nothing meanwhile
    qtbot.waitUntil(lambda: bool(seen))
    assert seen == [[1, 2]]


def test_a_settled_job_that_waits_ends_with_the_worker(worker: Worker, qtbot: Any) -> None:
    threads: list[threading.Thread] = []
    worker.submit(Job(lambda _: threads.append(threading.current_thread())))
    worker.submit(Job(lambda _: threads.clear(), settled=True))
    time.sleep(0.1)  # the first is done, and nobody heard of it
    worker.stop()
    (thread,) = threads
    thread.join(10)
    assert not thread.is_alive() and threads == [thread]
