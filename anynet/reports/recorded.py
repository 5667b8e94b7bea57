"""What callbacks wrote down at each epoch: the statistics of the layers, and texts of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from anynet.reports.charts import Series, lines, table_of
from anynet.reports.sections import Example, Figure, Gallery, Section, Table
from anynet.viz.svg import number

__all__ = ["layers_by_epoch_section", "texts_section"]

_MOST_LAYERS, _MOST_TEXTS = 8, 6
_QUANTITIES = (
    (
        "update_ratio",
        "Update against weights",
        "‖Δw‖ / ‖w‖ of the first update of each epoch; about 10⁻³ is usual.",
    ),
    (
        "gradient_norm",
        "Gradient",
        "Norm at the first update of each epoch; what fades or explodes shows here.",
    ),
    ("weight_norm", "Weights", "‖w‖ of each layer."),
    ("std", "Deviation of the outputs", "For the last batch of each epoch."),
    ("dead", "Dead units", "Share of units whose output is 0 for all samples of the last batch."),
    (
        "saturated",
        "Saturated outputs",
        "Share of outputs within 2 % of the bounds of a function that has some.",
    ),
)


def layers_by_epoch_section(records: Sequence[Mapping[str, Any]]) -> Section | None:
    """Curves of `LayerStatistics`: one for each layer; of many layers those that are spread evenly over the network."""
    blocks: list[Any] = []
    for key, title, caption in _QUANTITIES:
        series = _curves(records, key)
        if not series or (key in ("dead", "saturated") and not any(any(s.y) for s in series)):
            continue
        shown = series
        if len(series) > _MOST_LAYERS:
            places = [round(i * (len(series) - 1) / (_MOST_LAYERS - 1)) for i in range(_MOST_LAYERS)]
            shown = [series[i] for i in places]
            caption += f" {_MOST_LAYERS} of {len(series)} layers are drawn."
        svg = lines(shown, title=title, x_label="epoch", y_label=key.replace("_", " "), whole=True)
        head, rows, note = table_of(series, "epoch")
        blocks.append(Figure(svg, title, caption, Table(head, rows, note=note)))
    lead = "As LayerStatistics recorded them while the network was trained, a curve for each layer."
    return Section("Layers by epoch", blocks, lead) if blocks else None


def _curves(records: Sequence[Mapping[str, Any]], key: str) -> list[Series]:
    names = dict.fromkeys(name for r in records for name, entry in r["layers"].items() if key in entry)
    found = []
    for name in names:
        points = [(float(r["epoch"]), r["layers"].get(name, {}).get(key, math.nan)) for r in records]
        found.append(Series(name or "(all)", [x for x, _ in points], [float(y) for _, y in points]))
    return found


def texts_section(
    records: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]
) -> Section | None:
    """Texts of `TextSamples`: of the first epoch, the last, and some between."""
    if not records:
        return None
    losses = {r.get("epoch"): r.get("val_loss", r.get("loss")) for r in history}
    count = min(len(records), _MOST_TEXTS)
    places = sorted({round(i * (len(records) - 1) / max(1, count - 1)) for i in range(count)})
    examples = []
    for record in (records[i] for i in places):
        loss = losses.get(record["epoch"])
        said = [f"loss {number(loss)}"] if isinstance(loss, (int, float)) else []
        text = f"{record.get('prompt', '')}{record['text']}".strip("\n")
        examples.append(Example(f"epoch {record['epoch']}", said, text=text))
    lead = "The same prompt, temperature and random numbers each time: what differs was learned."
    return Section("What it writes", [Gallery("Texts by epoch", examples)], lead)
