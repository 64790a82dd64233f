"""What a model's file does not say, as a form with the values found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_sightline.errors import BadInput, SightlineError
from napari_sightline.models.presets import PRESETS
from napari_sightline.models.questions import FIELDS, HOW, Question, as_text, parse, question
from napari_sightline.viewer.buttons import wrapped
from napari_sightline.viewer.status import Advice

if TYPE_CHECKING:
    from napari_sightline.models.importing import Draft

#: Facts that may be looked at and changed although they were found.
_ALSO = ("name", "labels", "channels", "orientation", "spacing", "intensity", "roi", "overlap")


class ModelForm(QDialog):
    """Asks what could not be read safely; what was found can be seen and changed.

    Parameters
    ----------
    draft : Draft
        Of `importing.open_model`.
    """

    def __init__(self, draft: Draft, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Add the model {draft.name}")
        self._draft = draft
        self.fields: dict[str, Any] = {}
        self._given: dict[str, str] = {}
        self.advice = Advice()
        self.preset = QComboBox()
        self.preset.addItem("none of these", "")
        for name in draft.presets:
            self.preset.addItem(PRESETS[name].title, name)
        self.preset.activated.connect(self._on_preset)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        network = wrapped(QLabel(_network(draft)))
        form.addRow(network)
        if draft.presets:
            form.addRow(
                wrapped(QLabel("Is it one of these kinds? Their published facts are filled in."))
            )
            form.addRow(self.preset)
        asked = list(draft.questions)
        open_keys = {one.key for one in asked}
        values = {"name": draft.name, **draft.values}
        for key in _ALSO:
            if key not in open_keys and key in values:
                asked.append(question(key, values[key], "found in the file"))
        for one in asked:
            self._add(form, one)
        body = QWidget()
        body.setLayout(form)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(body)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        if ok is not None:
            ok.setText("Add")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addWidget(self.advice)
        column.addWidget(area, 1)
        column.addWidget(self.buttons)
        self.resize(620, 640)
        count = len(draft.questions)
        many = f"{count} facts" if count > 1 else "One fact"
        self.advice.say(
            f"{many} could not be read safely and must be answered; check the others."
            if count
            else "All facts were found; check them."
        )

    def _add(self, form: QFormLayout, one: Question) -> None:
        field: Any
        if one.choices:
            field = QComboBox()
            if not one.value:
                field.addItem("choose …", "")
            for choice in one.choices:
                field.addItem(choice.replace("_", " "), choice)
            field.setCurrentIndex(max(0, field.findData(one.value)))
        elif one.kind == "yes":
            field = QCheckBox("yes")
        elif one.kind == "labels":
            field = QTextEdit()  # napari's themes give a QPlainTextEdit no frame
            field.setAcceptRichText(False)
            field.setPlainText(one.value)
            field.setMaximumHeight(72)
        else:
            field = QLineEdit(one.value)
        text = one.text
        if one.found:
            text += f" ({one.found})" if len(one.found) < 160 else f" ({one.found[:157]}…)"
        if isinstance(field, QLineEdit | QTextEdit):
            field.setPlaceholderText(HOW[one.kind])
        # A row each: beside a field, a long question would be squeezed.
        form.addRow(wrapped(QLabel(text)))
        form.addRow(field)
        self.fields[one.key] = field
        self._given[one.key] = self.answer(one.key)

    def answer(self, key: str) -> str:
        """Return an answer as it stands in the form."""
        field = self.fields[key]
        if isinstance(field, QComboBox):
            return str(field.currentData())
        if isinstance(field, QCheckBox):
            return "yes" if field.isChecked() else ""
        return str(field.toPlainText() if isinstance(field, QTextEdit) else field.text())

    def fill(self, key: str, text: str) -> None:
        """Write an answer into the form, as a user would."""
        field = self.fields[key]
        if isinstance(field, QComboBox):
            field.setCurrentIndex(field.findData(text))
        elif isinstance(field, QCheckBox):
            field.setChecked(text == "yes")
        elif isinstance(field, QTextEdit):
            field.setPlainText(text)
        else:
            field.setText(text)

    @property
    def answers(self) -> dict[str, Any]:
        """Answers to what was asked, and what else was changed.

        Raises
        ------
        BadInput
            Where one is missing or not understood.
        """
        asked = {one.key for one in self._draft.questions}
        preset = str(self.preset.currentData() or "")
        found: dict[str, Any] = {}
        if preset:
            known = PRESETS[preset].values
            found = {key: value for key, value in known.items() if key not in self.fields}
        for key in self.fields:
            text = self.answer(key)
            if key in asked and not text:
                raise BadInput(f"There is no answer yet: {FIELDS[key][0]}")
            if key in asked or text != self._given[key]:
                found[key] = parse(key, text)
        return found

    def accept(self) -> None:
        """Close where all answers are there."""
        try:
            self._draft.segmenter(self.answers)
        except SightlineError as error:
            self.advice.say(str(error), alarm=True)
            return
        super().accept()

    def _on_preset(self) -> None:
        name = str(self.preset.currentData() or "")
        for key, value in (PRESETS[name].values if name else {}).items():
            if key in self.fields:
                self.fill(key, as_text(key, value))


def _network(draft: Draft) -> str:
    from napari_sightline.models.architecture import FAMILIES

    text = f"{FAMILIES[draft.family]}, {draft.in_channels} in, {draft.out_channels} out."
    notes: Sequence[str] = draft.notes
    return " ".join([text, *notes])
