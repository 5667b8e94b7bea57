"""The page: sections of one run, or of several against each other, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from anynet._version import __version__
from anynet.nn.module import Module
from anynet.reports import architecture, examples, held_out, importance, layers, training
from anynet.reports.comparison import comparison_sections
from anynet.reports.evaluation import Evaluated, evaluate_samples
from anynet.reports.markup import page_of
from anynet.reports.record import facts_of, loss_name, noun_of, record_sections
from anynet.reports.recorded import layers_by_epoch_section, texts_section
from anynet.reports.reported import ReportedRun
from anynet.reports.sections import Section, Words
from anynet.reports.timing import timing_section
from anynet.viz.svg import STYLE, VARIABLES, number
from anynet_backends import files

__all__ = ["Findings", "findings_of", "html_of", "report", "short_html"]

_EXTRA = (
    "--back:#f6f7f9;--link:#0b62a8;--good:#00734f;--bad:#b3400a;",
    "--back:#0e1216;--link:#7cc4f5;--good:#4fd3a6;--bad:#ff9a66;",
)


class Findings:
    """What was found out about one run: each part, or why it is not there (`missing`)."""

    def __init__(self, run: ReportedRun) -> None:
        self.run = run
        self.missing: list[str] = []
        self.described: str | None = None
        self.model: Module | None = self._try("the network could not be opened", run.model)
        data = self._try("the validation data could not be read", run.validation)
        self.data = data
        if data is not None:
            self.described = self._try("the data could not be described", lambda: _description(run))
        self.evaluated: Evaluated | None = None
        if data is None and not any("validation data" in m for m in self.missing):
            self.missing.append(
                "There are no validation data, so there are no results, predictions and examples on held-out samples."
            )
        if self.model is not None and data is not None:
            look = functools.partial(
                evaluate_samples, self.model, data, task=getattr(run.preprocessing, "task", None), loss=loss_name(run),
                preprocessing=run.preprocessing,
            )  # fmt: skip
            self.evaluated = self._try("the network could not be run on the validation data", look)
        if self.evaluated is not None and self.evaluated.task == "other":
            self.missing.append(
                "What the network predicts is neither one class a place nor numbers like the targets, so only the curves are shown."
            )
        self.results = (
            held_out.Results([], "")
            if self.evaluated is None
            else held_out.results_of(self.evaluated, noun_of(run))
        )
        if not run.history:
            self.missing.append("The history is empty: no epoch was finished.")

    def _try(self, what: str, do: Callable[[], Any]) -> Any:
        """What may fail for reasons outside of this package (code or data that have moved) is said in the page, not raised."""
        try:
            return do()
        except Exception as error:  # noqa: BLE001 the report is to be made, and says it
            self.missing.append(f"{what[0].upper()}{what[1:]}: {type(error).__name__}: {str(error)[:400]}")
            return None

    @property
    def summary(self) -> str:
        """The run in a sentence or two."""
        return self.results.summary or _summary_of_history(self.run)

    def part(self, what: str, do: Callable[[], Section | None]) -> list[Section]:
        """A section, or none."""
        found = self._try(what, do)
        return [] if found is None else [found]


def _description(run: ReportedRun) -> str | None:
    source = run.source()
    return None if source is None else str(source.describe())


def findings_of(run: ReportedRun) -> Findings:
    """Look at a run: open its network, run it on its validation data."""
    return Findings(run)


def _summary_of_history(run: ReportedRun) -> str:
    best, monitor = training.best_epoch(run)
    if best is None:
        return "There is nothing to sum up yet: no epoch was finished."
    x, y = training.numbers_of(run.history, monitor)
    value = dict(zip(x, y, strict=True)).get(float(best))
    said = f": {monitor} {number(value)}" if value is not None else ""
    return (
        f"The best of {len(run.history):,} epoch{'s' if len(run.history) != 1 else ''} is epoch {best}{said}."
    )


def _sections_of(found: Findings) -> list[Section]:
    """The chapters about one run."""
    run, model, evaluated = found.run, found.model, found.evaluated
    sections: list[Section] = []
    if found.results.items and evaluated is not None:
        sections.append(
            Section(
                "Results",
                [found.results.table()],
                f"On {held_out.count_in_words(evaluated, noun_of(run))}, which took no part in the training of the weights.",
            )
        )
    sections.append(training.training_section(run))
    sections += found.part(
        "the texts by epoch could not be shown", lambda: texts_section(run.records("samples"), run.history)
    )
    if evaluated is not None and evaluated.task != "other":
        sections += found.part(
            "the figures of the predictions could not be made",
            lambda: held_out.predictions_section(evaluated),
        )
        sections += found.part(
            "the permutation importance could not be computed",
            lambda: importance.importance_section(model, evaluated, run.preprocessing),  # type: ignore[arg-type]
        )
        sections += found.part(
            "the examples could not be shown",
            lambda: examples.examples_section(evaluated, run.preprocessing, _rows_of(run)),
        )
    if model is not None:
        sections += _inside(found, model)
    sections += record_sections(run, found.described)
    if found.missing:
        sections.append(Section("What is missing", [Words(m) for m in found.missing]))
    return sections


def _rows_of(run: ReportedRun) -> Any:
    """The held-out samples as they came, by column, where the source has rows."""
    source = run.source()
    rows = getattr(source, "rows", None)
    return rows("test" if source.valid is None else "valid") if callable(rows) else None


def _inside(found: Findings, model: Module) -> list[Section]:
    """The chapters about the network."""
    batch = (
        None
        if found.data is None
        else found._try(
            "no batch of the validation data could be made", lambda: layers.a_batch(model, found.data)
        )
    )
    if batch is None:
        return [layers.model_section(model, [])]
    inputs = batch[0]
    outputs = (
        found._try("the layers could not be observed", lambda: layers.layer_outputs(model, inputs)) or []
    )
    sections = [layers.model_section(model, outputs)]
    sections += found.part(
        "the graph of the network could not be recorded",
        lambda: architecture.architecture_section(model, layers.few(inputs, 2), outputs),
    )
    count = min(256, len(found.evaluated) if found.evaluated is not None else 256)
    sections += found.part(
        "the activations could not be shown", lambda: layers.activations_section(outputs, count)
    )
    sections += found.part(
        "the statistics of the layers could not be shown",
        lambda: layers_by_epoch_section(found.run.records("statistics")),
    )
    sections += found.part(
        "the updates could not be computed", lambda: layers.updates_section(found.run, model, found.data)
    )
    sections += found.part(
        "the times could not be measured",
        lambda: timing_section(found.run, model, batch),
    )
    return sections


# ----- HTML -----


@functools.cache
def _style() -> str:
    sheet = (resources.files("anynet.reports") / "report.css").read_text(encoding="utf-8")
    light, dark = (VARIABLES[i] + _EXTRA[i] for i in (0, 1))
    return (
        f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}@media "
        f"print{{:root{{{light}}}}}{STYLE}{sheet}"
    )


def html_of(runs: Sequence[ReportedRun]) -> str:
    """The whole page for one run or several."""
    found = [findings_of(run) for run in runs]
    first = found[0]
    if len(found) == 1:
        title = first.run.name
        heading, eyebrow, summary = title, "Training report", first.summary
        cards, sections, facts = first.results.cards(), _sections_of(first), facts_of(first.run, first.model)
    else:
        title = " · ".join(f.run.name for f in found[:4]) + (" …" if len(found) > 4 else "")
        heading, eyebrow = title if len(title) < 60 else f"{len(found)} runs", "Comparison of runs"
        summary, sections = comparison_sections(found)
        cards, facts = [], ""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return page_of(
        title=f"{title}: {eyebrow.lower()}", heading=heading, eyebrow=eyebrow, summary=summary, cards=cards, facts=facts,
        sections=sections, policy=policy, style=Markup(style), version=__version__, written=time.strftime("%Y-%m-%d"),  # noqa: S704 a file of this package
    )  # fmt: skip


def report(runs: Sequence[ReportedRun], out: str | os.PathLike[str]) -> Path:
    """Write the report of one run, or of several against each other, as one HTML file; returns its path.

    The file needs no network, no script and no other file: drawings are SVG, pictures lie inside. It says what was trained on
    what, the results on the held-out samples with bootstrap intervals, curves, predictions against the truth, what the network relies on,
    its worst and best samples, its layers from inside, times, the environment, and how to repeat it; each figure has its numbers
    in a table. What cannot be shown is named with the reason at the end. ValueError without a run, and where `out` does not end
    in .html.
    """
    path = Path(out)
    if not runs:
        msg = "report: give at least one run"
        raise ValueError(msg)
    if path.suffix.lower() not in (".html", ".htm"):
        msg = f"report: out must be a file that ends in .html, got {str(path)!r}"
        raise ValueError(msg)
    text = html_of(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, text)
    return path


def short_html(run: ReportedRun) -> str:
    """A run in a few lines, for notebooks: its name, what it is, its last and best numbers. Nothing is computed."""
    best, monitor = training.best_epoch(run)
    record: Mapping[str, Any] = next(
        (r for i, r in enumerate(run.history) if r.get("epoch", i + 1) == best),
        run.history[-1] if run.history else {},
    )
    cells = {k: v for k, v in record.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    head = "".join(str(Markup("<th>{}</th>").format(k)) for k in cells)
    row = "".join(str(Markup("<td>{}</td>").format(number(v))) for k, v in cells.items())
    table = f"<table><thead><tr>{head}</tr></thead><tbody><tr>{row}</tr></tbody></table>" if cells else ""
    said = (
        f"epoch {best} of {len(run.history):,}" + (f", the best by {monitor}" if monitor else "")
        if best is not None
        else "no epoch was finished"
    )
    return f"<div><strong>{escape(run.name)}</strong> <span>{escape(facts_of(run, None))}</span><div>{escape(said)}</div>{table}</div>"
