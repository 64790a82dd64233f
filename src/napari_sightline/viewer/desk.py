"""What a reader does with objects in the list: each is a step of the session, and can be undone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog

from napari_sightline.errors import BadInput
from napari_sightline.prompts import Position
from napari_sightline.viewer.colours import colour_of
from napari_sightline.viewer.worker import Job

if TYPE_CHECKING:
    from napari_sightline.segment.interactive import Session
    from napari_sightline.viewer.controller import Controller
    from napari_sightline.viewer.view import PromptView


class Desk(QObject):
    """Joins the list of objects, and the operations on them, to the controller.

    Parameters
    ----------
    go : callable
        Shows a voxel of the present scan.
    """

    def __init__(
        self, view: PromptView, controller: Controller, go: Callable[[Position], None]
    ) -> None:
        super().__init__(controller)
        self._view, self._control, self._go = view, controller, go
        table = view.list
        table.renamed.connect(controller.rename)
        table.shown_asked.connect(self.show_object)
        table.locked_asked.connect(self.lock)
        table.place_asked.connect(self.visit)
        table.asked.connect(self.act)
        view.shape.asked.connect(self.operate)

    def show_object(self, number: int, on: bool) -> None:
        """Show or hide an object."""
        self._control.ask(lambda session, _: session.set_visible(number, on))

    def lock(self, number: int, on: bool) -> None:
        """Lock or unlock an accepted object."""
        self._control.ask(lambda session, _: session.lock(number) if on else session.unlock(number))

    def visit(self, number: int) -> None:
        """Go to the middle of an object."""
        case = self._control.case
        if case is None:
            return

        def find(_: Job[Position | None]) -> Position | None:
            return middle(case.session, number)

        def arrive(place: Position | None) -> None:
            if place is not None and self._control.case is case:
                self._go(place)

        self._control.worker.submit(Job(find, arrive, kind="look"))

    def act(self, key: str, numbers: list[int]) -> None:
        """Do one of the list's actions to some objects."""
        control, first = self._control, numbers[0]
        if key == "correct":
            control.ask(partial(_correct, first))
        elif key == "merge":
            control.ask(lambda session, _: session.merge(numbers))
        elif key == "duplicate":
            control.ask(lambda session, _: session.duplicate(first))
        elif key == "delete":
            for number in numbers:
                control.ask(partial(_delete, number))
        elif key == "own colour":
            for number in numbers:
                control.ask(partial(_recolour, number, None))
        elif key == "colour":
            self._recolour(numbers)

    def _recolour(self, numbers: list[int]) -> None:
        row = self._control.case.state.row(numbers[0]) if self._control.case else None
        now = (row.colour or colour_of(row.id, row.name)) if row is not None else (255, 255, 255)
        chosen = QColorDialog.getColor(QColor(*now), self._view, "Colour of the object")
        if chosen.isValid():
            rgb = (chosen.red(), chosen.green(), chosen.blue())
            for number in numbers:
                self._control.ask(partial(_recolour, number, rgb))

    def operate(self, name: str, mm: float) -> None:
        """Do an operation to the object that is marked alone in the list, or the current one."""
        case = self._control.case
        if case is None:
            return
        marked = self._view.list.marked()
        number = marked[0] if len(marked) == 1 else None
        if number is not None and case.state.row(number) is None:
            number = None
        self._control.ask(partial(_operate, name, mm, number))


def _correct(number: int, session: Session, _: Any) -> Any:
    item = next((item for item in session.objects if item.id == number), None)
    if item is not None and not item.accepted:
        return session.select(number)
    return session.reopen(number)


def _delete(number: int, session: Session, _: Any) -> Any:
    return session.delete(number)


def _recolour(number: int, rgb: tuple[int, int, int] | None, session: Session, _: Any) -> Any:
    return session.recolour(number, rgb)


def _operate(name: str, mm: float, number: int | None, session: Session, _: Any) -> Any:
    item = next((item for item in session.objects if item.id == number), session.current)
    if item.mask_box is None:
        raise BadInput("The object has no mask yet; place a prompt first.")
    if name == "largest part":
        return session.largest_part(item.id)
    if name == "fill holes":
        return session.fill_holes(item.id)
    if name == "interpolate":
        return session.interpolate(None, item.id)
    if name == "smooth":
        return session.smooth(mm, item.id)
    return session.grow(mm if name == "grow" else -mm, item.id)


def middle(session: Session, number: int) -> Position | None:
    """Voxel of an object that is nearest to its centre of mass; None without a mask."""
    item = next((item for item in session.objects if item.id == number), None)
    if item is None or item.mask is None or item.mask_box is None:
        return None
    voxels = np.argwhere(item.mask)
    nearest = voxels[np.argmin(((voxels - voxels.mean(0)) ** 2).sum(1))]
    a, b, c = (float(v + s.start) for v, s in zip(nearest, item.mask_box, strict=True))
    return a, b, c
