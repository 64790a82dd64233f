"""Work off the main thread: one thread per panel, jobs in order, results back on the main thread.

A job that was cancelled may still finish; whoever gave it decides in `done` what that means.
After `Worker.stop` nothing is reported any more, whatever still runs.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from qtpy.QtCore import (  # type: ignore[attr-defined]
    QCoreApplication,
    QEventLoop,
    QObject,
    QThread,
    Signal,
)

from napari_sightline.viewer import garbage

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: Seconds that the interpreter waits at its end for work that still runs.
_PATIENCE = 60.0
#: Seconds between two reports of progress.
_BEAT = 0.05
#: By how much a worker is nicer than the window.
_NICE = 10


class Job(Generic[T]):
    """A piece of work, and who wants to hear of it.

    Parameters
    ----------
    work : callable
        Runs on the worker thread; is given the job, for `progress` and `cancelled`.
    done : callable, optional
        Called with the result, on the main thread.
    failed : callable, optional
        Called with the exception, on the main thread.
    kind : str
        What it is, for whoever looks through the queue.
    lasting : bool
        Is done even when the worker is stopped before; nobody hears of it then.
    settled : bool
        Begins only once the main thread has heard of all that went before.
    """

    def __init__(
        self,
        work: Callable[[Job[T]], T],
        done: Callable[[T], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        kind: str = "",
        lasting: bool = False,
        settled: bool = False,
    ) -> None:
        self.work: Callable[[Job[T]], T] | None = work
        self.done = done
        self.failed = failed
        self.kind = kind
        self.lasting = lasting
        self.settled = settled
        self.computed = False  # the work is done, whether or not the main thread knows
        self.prompt: Any = None  # what a click asks for
        self.partly: Callable[[Any], None] | None = None  # hears of `tell`, on the main thread
        self._cancelled = threading.Event()
        self._channel: _Channel | None = None
        self._told = -math.inf
        self._untold: tuple[float, str] | None = None

    def cancel(self) -> None:
        """Ask the work to stop; a job that has not begun is still called, and may say so."""
        self._cancelled.set()

    def cancelled(self) -> bool:
        """Whether `cancel` was called; what engines want as their `cancel` argument."""
        return self._cancelled.is_set()

    def progress(self, share: float, word: str) -> None:
        """Report progress, 0 .. 1 and a word, from the worker thread."""
        self._untold = share, word
        if time.monotonic() - self._told > _BEAT or share >= 1:
            self.catch_up()

    def catch_up(self) -> None:
        """Report the latest progress from the worker thread, where it was too soon for a report."""
        untold, self._untold = self._untold, None
        if self._channel is not None and untold is not None:
            self._told = time.monotonic()
            self._channel.send(("progress", self, untold))

    def pause(self, seconds: float) -> bool:
        """Wait on the worker thread, or until the job is cancelled; whether it is."""
        return self._cancelled.wait(seconds)

    def tell(self, value: Any) -> None:
        """Hand something over from the worker thread before the work is done, and how far it is."""
        self.catch_up()
        if self._channel is not None:
            self._channel.send(("partly", self, value))

    def forget(self) -> None:
        """Cancel, and let go of everyone who wanted to hear of it."""
        self.cancel()
        self.hush()

    def hush(self) -> None:
        """Let go of everyone who wanted to hear of it; the work goes on."""
        self.done = self.failed = self.partly = None


class _Channel(QObject):
    """Carries reports from the worker thread to the main thread."""

    report = Signal(object)

    def send(self, message: tuple[str, Job[Any], Any]) -> None:
        try:
            self.report.emit(message)
        except RuntimeError:  # Qt took the object away when the application ended
            _log.debug("nobody is left to hear of %s", message[1].kind)


class _Queue:
    """Jobs that wait; shared by the main thread and one worker thread."""

    def __init__(self) -> None:
        self.ready = threading.Condition()
        self.jobs: deque[Job[Any]] = deque()
        self.unheard = 0  # jobs that ended, and the main thread does not know yet
        self.running: Job[Any] | None = None
        self.closed = False

    def take(self) -> Job[Any] | None:
        """Wait for the next job that may begin; None after the last."""
        with self.ready:
            self.running = None
            while not self.closed and (not self.jobs or (self.jobs[0].settled and self.unheard)):
                self.ready.wait()
            self.running = self.jobs.popleft() if self.jobs else None
            return self.running

    def heard(self, change: int) -> None:
        """Count jobs that ended (+1) and those that were heard of (-1)."""
        with self.ready:
            self.unheard += change
            self.ready.notify()

    @property
    def lasts(self) -> bool:
        """Whether it was closed, and something that is still done is not done yet."""
        with self.ready:
            running = self.running is not None and self.running.lasting
            return self.closed and (running or bool(self.jobs))

    def close(self) -> None:
        with self.ready:
            self.closed = True
            self.jobs = deque(job for job in self.jobs if job.lasting)
            if self.running is not None and not self.running.lasting:
                self.running.cancel()
            self.ready.notify_all()


_running: weakref.WeakKeyDictionary[threading.Thread, _Queue] = weakref.WeakKeyDictionary()


def _serve(queue: _Queue, channel: _Channel, before: Sequence[threading.Thread]) -> None:
    """Life of a worker thread: it knows its queue and its channel, and nobody else.

    It begins once the threads of stopped workers have done what lasts.
    """
    for thread in before:
        thread.join()
    del before
    _stand_back()
    while (job := queue.take()) is not None:
        channel.send(("started", job, None))
        try:
            assert job.work is not None
            result = job.work(job)
        except Exception as error:  # every fault belongs to whoever gave the job
            queue.heard(+1)
            channel.send(("failed", job, error))
        else:
            job.computed = True
            queue.heard(+1)
            channel.send(("done", job, result))
            del result
        job.work = None
        del job


def _stand_back() -> None:
    """Let the window go first where it and this thread, or the model's own, want one processor.

    Only Linux knows a niceness of threads; those that torch begins from here inherit it.
    """
    if sys.platform == "linux":
        number = threading.get_native_id()
        try:
            os.setpriority(os.PRIO_PROCESS, number, os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
        except OSError as error:
            _log.debug("the worker runs at the window's priority: %s", error)


class Worker(QObject):
    """Runs jobs one after the other on a thread of its own, begun with the first job.

    Signals
    -------
    changed
        A job was given, began or ended: `jobs` has changed.
    progressed(float, str)
        Share and word of the job that runs.
    """

    changed = Signal()
    progressed = Signal(float, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._queue: _Queue | None = None
        self._channel: _Channel | None = None
        self._jobs: list[Job[Any]] = []
        self._loaded = False

    @property
    def jobs(self) -> tuple[Job[Any], ...]:
        """Jobs that run or wait, in order."""
        return tuple(self._jobs)

    def submit(self, job: Job[Any]) -> Job[Any]:
        """Queue a job; returns it."""
        if self._queue is None:
            self._queue, self._channel = _Queue(), _Channel()
            self._channel.report.connect(self._hear)
            before = [thread for thread, queue in list(_running.items()) if queue.lasts]
            thread = threading.Thread(
                target=_serve,
                args=(self._queue, self._channel, before),
                name="sightline",
                daemon=True,
            )
            _running[thread] = self._queue
            self.destroyed.connect(self._queue.close)
            thread.start()
        job._channel = self._channel
        self._jobs.append(job)
        with self._queue.ready:
            self._queue.jobs.append(job)
            self._queue.ready.notify()
        self.changed.emit()
        return job

    def stop(self) -> None:
        """Drop what waits, cancel what runs, report nothing any more; `submit` begins anew.

        Lasting jobs are still done, in order, before any worker that begins later does its first.
        """
        if self._queue is None:
            return
        self._queue.close()
        for job in self._jobs:
            (job.hush if job.lasting else job.forget)()
        self._jobs = []
        self._queue = self._channel = None
        self.changed.emit()

    def _hear(self, message: tuple[str, Job[Any], Any]) -> None:
        what, job, value = message
        if job not in self._jobs:  # of a thread that was stopped in the meantime
            return
        if what == "progress":
            self.progressed.emit(*value)
            return
        if what == "started":
            self.changed.emit()
            return
        if what == "partly":
            if job.partly is not None and not job.cancelled():
                job.partly(value)
            return
        self._jobs.remove(job)
        queue = self._queue  # whoever hears may stop this worker
        hear = job.done if what == "done" else job.failed
        job.done = job.failed = job.partly = None
        try:
            if hear is not None:
                hear(value)
        finally:
            if queue is not None:
                queue.heard(-1)
            self.changed.emit()
        if not self._jobs and not self._loaded:
            self._loaded = True
            garbage.settle()  # the first jobs load what takes long


@atexit.register
def _leave() -> None:
    """Cancel running work and wait for it: torch must not lose its thread in the middle."""
    threads = list(_running.items())
    for _, queue in threads:
        queue.close()
    for thread, _ in threads:
        thread.join(_PATIENCE)


def apart(work: Callable[[], T]) -> T:
    """Run work on another thread and return its result; the window is drawn meanwhile.

    For functions that napari wants an answer from, such as readers: clicks and keys wait until
    they return. Without a running window the work is simply done.
    """
    app = QCoreApplication.instance()
    if app is None or QThread.currentThread() is not app.thread() or not has_window():
        return work()
    results: list[T] = []
    errors: list[BaseException] = []
    channel, loop = _Channel(), QEventLoop()
    channel.report.connect(lambda _: loop.quit())

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed to the caller below
            errors.append(error)
        finally:
            channel.report.emit(None)

    thread = threading.Thread(target=run, name="sightline-apart", daemon=True)
    thread.start()
    while thread.is_alive() or not (results or errors):
        loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        thread.join()
    if errors:
        raise errors[0]
    return results[0]


def has_window() -> bool:
    """Whether a window is on the screen, so that there is somebody to ask."""
    from qtpy.QtWidgets import QApplication

    return any(window.isVisible() for window in QApplication.topLevelWidgets())
