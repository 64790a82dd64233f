"""Interactive quality: a robot user clicks through cases; see docs/evaluation.md.

Nothing but the clicks passes from the truth to the session: the region of
interest is the session's own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_sightline.environment import prepare_torch
from napari_sightline.errors import BadInput
from napari_sightline.evaluate.baseline import make_baseline
from napari_sightline.evaluate.cases import EvaluationCase, load_case
from napari_sightline.evaluate.metrics import dice, surface_dice
from napari_sightline.evaluate.report import Outcome, RobotProtocol, summarise
from napari_sightline.evaluate.robot import SEED, simulate_box, simulate_click

if TYPE_CHECKING:
    from napari_sightline.prompts import Prompt
    from napari_sightline.volume import Box3, Volume


class PromptedObject(Protocol):
    """What is read of the object that is being segmented."""

    @property
    def mask_box(self) -> Box3 | None:
        """Box of the mask in the volume, None where it is empty."""

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """The mask inside its box."""


class PromptedSession(Protocol):
    """What is asked of a session; `napari_sightline.Session` has it."""

    @property
    def current(self) -> PromptedObject:
        """The object that takes the prompts."""

    def load(self) -> None:
        """Load weights, so that no click pays for it."""

    def set_volume(self, volume: Volume) -> None:
        """Take a scan."""

    def new_object(self, name: str = "") -> object:
        """Begin another structure of the same scan."""

    def add(self, prompt: Prompt) -> Any:
        """Add a prompt; the answer has ``seconds`` and ``encode_seconds``."""


SessionFactory = Callable[[], PromptedSession]
#: Called with cases done, cases in all, and the case's name.
Progress = Callable[[int, int, str], None]


def make_session(
    model: str = "sightline-3d", device: str = "auto", weights: Path | None = None
) -> PromptedSession:
    """Make the session to evaluate; a `functools.partial` of it can go to other processes."""
    from napari_sightline.models import load_model
    from napari_sightline.segment.interactive import Session

    return Session(load_model(model, device, weights))


def evaluate(
    cases: Sequence[EvaluationCase],
    factory: SessionFactory = make_session,
    protocol: RobotProtocol | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """Let a robot user click through cases and score every click.

    Parameters
    ----------
    cases : sequence of EvaluationCase
        At least one.
    factory : callable
        Makes a session; picklable where `jobs` is above 1.
    protocol : RobotProtocol, optional
        Number of clicks and variants.
    jobs : int
        Processes that share the cases, and the cores. Times are then those of a
        busy machine.
    progress : callable, optional
        Called after each case.
    details : bool
        Whether the result holds the scores and clicks of every structure (``items``).

    Returns
    -------
    dict
        Plain JSON values; see docs/evaluation.md.

    Raises
    ------
    BadInput
        Where there are no cases or one of them cannot be used.
    """
    if not cases:
        raise BadInput("There are no cases to evaluate; list one or more in the cases file.")
    if jobs < 1:
        raise BadInput(f"{jobs} processes cannot do anything; give --jobs 1 or more.")
    plan = protocol or RobotProtocol()
    outcomes: list[Outcome] = []
    for number, (case, found) in enumerate(_all_outcomes(cases, factory, plan, jobs)):
        outcomes += found
        if progress is not None:
            progress(number + 1, len(cases), case.name)
    if not outcomes:
        raise BadInput("None of the cases holds a listed structure; check the label values.")
    return summarise(outcomes, plan, len(cases), jobs, details)


def evaluate_case(
    case: EvaluationCase, session: PromptedSession, protocol: RobotProtocol
) -> list[Outcome]:
    """Score the structures of one case that its label map holds.

    Raises
    ------
    BadInput
        Where the case's files cannot be used.
    """
    volume, labels = load_case(case)
    session.set_volume(volume)
    outcomes = []
    for value, name in case.structures.items():
        truth = labels == value
        if not truth.any():
            continue  # listed, but not drawn: nothing to click on
        outcome = Outcome(case.name, case.set, case.modality, name, case.owner)
        session.new_object(name)
        _click_through(outcome, volume, truth, protocol, partial(_ask, session, volume, outcome))
        if protocol.baseline:
            baseline = make_baseline(protocol.baseline, volume, case.set)
            shadow = Outcome(case.name, case.set, case.modality, name)
            _click_through(shadow, volume, truth, protocol, baseline.add)
            outcome.baseline_dsc, outcome.baseline_nsd = shadow.dsc, shadow.nsd
        outcomes.append(outcome)
    return outcomes


def _click_through(
    outcome: Outcome,
    volume: Volume,
    truth: npt.NDArray[np.bool_],
    protocol: RobotProtocol,
    answer: Callable[[Prompt], npt.NDArray[np.bool_]],
) -> None:
    """Click until the protocol ends; after a perfect answer the last score stands."""
    rng = np.random.default_rng(SEED)
    pred = np.zeros_like(truth)
    if protocol.box_first and (box := simulate_box(truth)) is not None:
        pred = answer(box)
    for _ in range(protocol.clicks):
        click = simulate_click(
            pred, truth, volume.spacing if protocol.in_mm else None, rng, protocol.noisy
        )
        if click is not None:
            outcome.clicks.append(click)
            pred = answer(click)
        outcome.dsc.append(dice(pred, truth))
        outcome.nsd.append(surface_dice(pred, truth, volume.spacing, protocol.tolerance_mm))


def _ask(
    session: PromptedSession, volume: Volume, outcome: Outcome, prompt: Prompt
) -> npt.NDArray[np.bool_]:
    """Give a prompt to the session, note its time, return the mask on the whole grid."""
    update = session.add(prompt)
    outcome.encode_seconds.append(float(update.encode_seconds))
    outcome.seconds.append(float(update.seconds) - float(update.encode_seconds))
    mask = np.zeros(volume.shape, dtype=bool)
    box, inside = session.current.mask_box, session.current.mask
    if box is not None and inside is not None:
        mask[box] = inside
    return mask


# One session for each process: loading weights for every case would cost more than the clicks.
_worker: dict[str, PromptedSession] = {}


def _all_outcomes(
    cases: Sequence[EvaluationCase], factory: SessionFactory, protocol: RobotProtocol, jobs: int
) -> Iterator[tuple[EvaluationCase, list[Outcome]]]:
    """Yield the outcomes of each case in order."""
    if jobs == 1:
        session = factory()
        session.load()
        for case in cases:
            yield case, evaluate_case(case, session, protocol)
        return
    # "spawn": a forked torch may wait for threads that the child does not have.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start, (factory, jobs)) as pool:
        futures = [pool.submit(_work, case, protocol) for case in cases]
        try:
            for case, future in zip(cases, futures, strict=True):
                yield case, future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(factory: SessionFactory, jobs: int) -> None:
    """Prepare a worker process: its share of the threads and a session."""
    import os

    # Read when torch is first imported, which a fresh process has not done yet.
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    prepare_torch()
    _worker["session"] = factory()
    _worker["session"].load()


def _work(case: EvaluationCase, protocol: RobotProtocol) -> list[Outcome]:
    return evaluate_case(case, _worker["session"], protocol)
