"""The top of a panel: a sentence on what to do next, and how far the work is."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_sightline.viewer.buttons import button, wrapped


class Advice(QLabel):
    """A sentence on what to do next, or what went wrong.

    Parameters
    ----------
    height : int
        Pixels at least, so that nothing jumps when it changes.
    """

    def __init__(self, height: int = 0) -> None:
        super().__init__()
        self._alarm: bool | None = None
        wrapped(self).setMinimumHeight(height)

    def say(self, text: str, alarm: bool = False) -> None:
        """Say something; in red what went wrong."""
        if self.text() != text:
            self.setText(text)
        if alarm != self._alarm:  # a style sheet costs milliseconds
            self._alarm = alarm
            edge = "#e0533d" if alarm else "#4aa3df"
            self.setStyleSheet(
                f"QLabel {{ border: 0; border-left: 4px solid {edge};"
                " padding: 2px 2px 2px 8px; font-size: 11pt; }"
            )


class Status(QWidget):
    """Advice, progress and cancel.

    Parameters
    ----------
    cancel_tip : str
        What cancelling does.
    cancel : Signal or callable
        What the button does.
    height : int
        Of the sentence at least, pixels, so that nothing jumps when it changes.
    after : int
        Milliseconds that work goes on before its progress is shown.
    """

    def __init__(self, cancel_tip: str, cancel: Any, height: int = 48, after: int = 0) -> None:
        super().__init__()
        self._share = (0, "", True)
        self._moment = QTimer(self)
        self._moment.setSingleShot(True)
        self._moment.setInterval(after)
        self._moment.timeout.connect(self._draw_progress)
        self.advice = Advice(height)
        self.show_advice = self.advice.say
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.setFixedHeight(16)
        self.cancel = button("Cancel", cancel_tip, cancel)
        self.cancel.setFixedHeight(20)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel)
        for widget in (self.progress, self.cancel):
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            widget.setSizePolicy(policy)
            widget.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.advice)
        column.addLayout(row)

    def show_progress(self, share: float | None, word: str = "", stoppable: bool = True) -> None:
        """Show how far the work is, once it has taken a moment; None hides it."""
        if share is None:
            self._moment.stop()
            if not self.progress.isHidden():
                self.progress.hide()
                self.cancel.hide()
            return
        self._share = round(100 * share), word, stoppable
        if not self.progress.isHidden() or self._moment.interval() == 0:
            self._draw_progress()
        elif not self._moment.isActive():
            self._moment.start()

    def _draw_progress(self) -> None:
        # Each of these makes Qt draw the whole window at once, the scan too.
        value, word, stoppable = self._share
        self.progress.setFormat(word)
        self.progress.setValue(value)
        self.progress.show()
        self.cancel.setVisible(stoppable)
