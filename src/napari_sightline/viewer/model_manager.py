"""The window that manages models: list, download, add, verify, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QScrollArea,
    QSplitter,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.errors import Cancelled, SightlineError
from napari_sightline.models import catalog, store
from napari_sightline.models.catalog import Entry
from napari_sightline.viewer.buttons import button
from napari_sightline.viewer.model_form import ModelForm
from napari_sightline.viewer.status import Status
from napari_sightline.viewer.worker import Job, Worker

if TYPE_CHECKING:
    from napari_sightline.models.importing import Draft

_NAME = Qt.ItemDataRole.UserRole
_STATES = {
    "shipped": "ships with the package",
    "missing": "not in this installation",
    "here": "in your folder",
    "to download": "to download",
}


class ModelManager(QDialog):
    """Models that are shipped, the user's own, and those to download.

    Signals
    -------
    changed
        A model came or went.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Models")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.worker = Worker(self)
        self.worker.changed.connect(self._refresh)
        self.worker.progressed.connect(self._on_progress)
        self._job: Job[Any] | None = None
        self._entries: dict[str, Entry] = {}
        self._build()
        self.list_models()
        self._say("Models stay on this machine. Nothing in their files is run.")

    def _build(self) -> None:
        self.status = Status(
            "Stop; what was fetched is kept for the next try", self.stop, height=24
        )
        self.advice, self.progress = self.status.advice, self.status.progress
        self.cancel, self._say = self.status.cancel, self.status.show_advice
        self.tree = QTreeWidget()
        self.tree.setColumnCount(3)
        self.tree.setHeaderLabels(["model", "where", "size"])
        self.tree.setRootIsDecorated(False)
        header = self.tree.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
        self.tree.currentItemChanged.connect(self._refresh)
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.facts.setTextFormat(Qt.TextFormat.PlainText)
        self.facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.facts.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.facts.setContentsMargins(6, 4, 6, 4)
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.tree)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(self.facts)
        area.setMinimumHeight(80)
        split.addWidget(area)
        split.setSizes([210, 220])
        split.setCollapsible(1, False)
        self.get = button("Download …", "After its licence is shown", self.download)
        self.add_file = button(
            "Add file …", "Import a checkpoint or a zipped bundle", self.ask_file
        )
        self.add_folder = button("Add folder …", "Import a MONAI bundle", self.ask_folder)
        self.check = button("Verify", "Check that its file is whole", self.verify)
        self.drop = button("Remove …", "Delete it from your folder", self.remove)
        row = QHBoxLayout()
        for one in (self.get, self.add_file, self.add_folder, self.check, self.drop):
            row.addWidget(one)
        column = QVBoxLayout(self)
        column.addWidget(self.status)
        column.addWidget(split, 1)
        column.addLayout(row)
        self.resize(640, 560)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Stop what runs: a download goes on from there the next time."""
        self.worker.stop()
        if event is not None:
            super().closeEvent(event)

    # ---- the list

    def list_models(self, choose: str = "") -> None:
        """List all models anew."""
        before = choose or self.chosen
        self._entries = {entry.card.name: entry for entry in catalog.entries()}
        self.tree.clear()
        for name, entry in self._entries.items():
            item = QTreeWidgetItem([name, _STATES[entry.state], entry.card.size_in_words])
            item.setData(0, _NAME, name)
            item.setTextAlignment(2, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            item.setToolTip(0, entry.card.title)
            self.tree.addTopLevelItem(item)
            if name == before:
                self.tree.setCurrentItem(item)
        if self.tree.currentItem() is None and self.tree.topLevelItemCount():
            self.tree.setCurrentItem(self.tree.topLevelItem(0))
        self._refresh()

    @property
    def chosen(self) -> str:
        """Name of the model that is marked."""
        item = self.tree.currentItem()
        return str(item.data(0, _NAME)) if item is not None else ""

    def choose(self, name: str) -> None:
        """Mark a model."""
        for row in range(self.tree.topLevelItemCount()):
            item = self.tree.topLevelItem(row)
            if item is not None and item.data(0, _NAME) == name:
                self.tree.setCurrentItem(item)

    # ---- what a user does

    def download(self) -> None:
        """Show the licence, then fetch the marked model."""
        entry = self._entries.get(self.chosen)
        if entry is None or entry.state != "to download":
            return
        card = entry.card
        if not self._agrees(
            f"Download {card.name}?",
            f"{card.title}\n\nLicence: {card.licence}\n\nSource: {card.source}\n"
            f"Size: {card.size_in_words}\n\nDownload it under these terms?",
        ):
            return
        name = card.name

        def done(path: Path) -> None:
            self._import(name, path)

        self._submit(
            "download",
            lambda job: catalog.fetch_files(name, _part(job, 0.9), job.cancelled),
            done,
        )

    def _import(self, name: str, path: Path) -> None:
        """Make a model of what was fetched, asking what its files do not say."""
        card = self._entries[name].card

        def done(draft: Draft) -> None:
            known = {"name": card.name, "licence": card.licence, "source": card.source}
            answers = {**card.answers, **known}
            open_ones = [one for one in draft.questions if one.key not in answers]
            if open_ones:
                form = ModelForm(draft, self)
                for key, value in answers.items():
                    if key in form.fields:
                        from napari_sightline.models.questions import as_text

                        form.fill(key, as_text(key, value))
                if not form.exec():
                    self._say("Nothing was added; what was downloaded is kept.")
                    return
                answers = {**answers, **form.answers}

            def finish(job: Job[Any]) -> store.Installed:
                return catalog.download(name, job.progress, job.cancelled, answers=answers)

            self._submit("add", finish, self._on_added)

        def read(_: Job[Draft]) -> Draft:
            from napari_sightline.models.importing import open_model

            return open_model(path, card.preset)

        self._submit("read", read, done)

    def ask_file(self) -> None:
        """Ask for a file, and import it."""
        chosen, _ = QFileDialog.getOpenFileName(
            self,
            "Add a model",
            str(Path.home()),
            "Models (*.pt *.pth *.ckpt *.safetensors *.zip);;All files (*)",
        )
        if chosen:
            self.add(Path(chosen))

    def ask_folder(self) -> None:
        """Ask for a bundle's folder, and import it."""
        chosen = QFileDialog.getExistingDirectory(self, "Add a MONAI bundle", str(Path.home()))
        if chosen:
            self.add(Path(chosen))

    def add(self, path: Path) -> None:
        """Import a model from disk; what it does not say is asked in a form."""
        if catalog.is_own(path):
            self._submit("add", lambda _: catalog.add(path), self._on_added)
            return

        def done(draft: Draft) -> None:
            form = ModelForm(draft, self)
            if not form.exec():
                self._say("Nothing was added.")
                return
            answers = form.answers
            name = str(answers.get("name") or draft.name)

            def finish(_: Job[Any]) -> store.Installed:
                return catalog.add(path, name, answers=answers)

            self._submit("add", finish, self._on_added)

        def read(_: Job[Draft]) -> Draft:
            from napari_sightline.models.importing import open_model

            return open_model(path)

        self._submit("read", read, done)

    def verify(self) -> None:
        """Check the marked model's file."""
        name = self.chosen

        def done(digest: str) -> None:
            self._say(f"{name} is whole. SHA-256 {digest}")

        self._submit("verify", lambda _: catalog.verify(name), done)

    def remove(self) -> None:
        """Ask, and delete the marked model."""
        name = self.chosen
        if not self._agrees(f"Remove {name}?", f"Delete {name} from your folder?"):
            return

        def done(_: None) -> None:
            self._say(f"{name} was removed.")
            self.list_models()
            self.changed.emit()

        self._submit("remove", lambda _: catalog.remove(name), done)

    def stop(self) -> None:
        """Cancel what runs."""
        if self._job is not None:
            self._job.cancel()

    def _agrees(self, title: str, text: str) -> bool:
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(self, title, text, buttons.Yes | buttons.No)
        return bool(answer == buttons.Yes)

    # ---- work

    def _submit(self, kind: str, work: Any, done: Any) -> None:
        self._job = Job(work, done, self._fail, kind)
        self.worker.submit(self._job)

    def _on_added(self, made: store.Installed) -> None:
        self._say(f"{made.name} is ready: {', '.join(made.structures)}.")
        self.list_models(made.name)
        self.changed.emit()

    def _fail(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self._say("Stopped. What was fetched is kept for the next try.")
        elif isinstance(error, SightlineError):
            self._say(str(error), alarm=True)
        else:
            raise error

    def _on_progress(self, share: float, word: str) -> None:
        stoppable = self._job is not None and self._job.kind == "download"
        self.status.show_progress(share, f"{word} %p%" if word else "", stoppable)

    def _refresh(self, *_: object) -> None:
        entry = self._entries.get(self.chosen)
        busy = bool(self.worker.jobs)
        if not busy:
            self.status.show_progress(None)
        elif self.progress.isHidden():
            self._on_progress(0.0, "")
        self.facts.setText(_facts(entry) if entry is not None else "")
        self.get.setEnabled(not busy and entry is not None and entry.state == "to download")
        here = entry is not None and entry.state in ("here", "shipped")
        self.check.setEnabled(not busy and here)
        self.drop.setEnabled(not busy and entry is not None and entry.state == "here")
        for one in (self.add_file, self.add_folder):
            one.setEnabled(not busy)


def _part(job: Job[Any], share: float) -> Any:
    return lambda done, word: job.progress(share * done, word)


def _facts(entry: Entry) -> str:
    card = entry.card
    lines = [
        card.title,
        f"Structures: {', '.join(card.structures)}" if card.structures else "",
        f"Quality: {card.figures}" if card.figures else "",
        f"Licence: {card.licence}",
        f"Source: {card.source}" if card.source else "",
        f"SHA-256: {entry.sha256}" if entry.sha256 else "",
    ]
    if entry.state == "missing":
        lines.insert(1, "The weights are not part of this installation.")
    return "\n".join(line for line in lines if line)
