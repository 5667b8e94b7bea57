"""Results on held-out samples: numbers with their intervals, and the figures that belong to the task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anynet as an
from anynet.reports.charts import Series, bars, heat_map, histogram, lines, scatter, table_of
from anynet.reports.evaluation import Evaluated
from anynet.reports.intervals import Estimate
from anynet.reports.sections import Card, Figure, Numeral, Section, Table, Words, percent
from anynet.tensor import Tensor
from anynet.viz.svg import number

__all__ = ["Result", "Results", "binned", "count_in_words", "predictions_section", "results_of"]

SHOWN_CLASSES = 20  # in a confusion matrix; of more classes those with the most mistakes
_FLOAT = "float64"
_MOST_TARGETS = 8  # of which each has its own numbers
MEANINGS = {
    "accuracy": "share of answers (of places, where a sample has several) that are right",
    "balanced accuracy": "mean over the classes of the share that is found",
    "macro F1": "mean over the classes of 2 · precision · recall / (precision + recall)",
    "log-loss": "mean of −log p of the truth",
    "top-5 accuracy": "the right class is among the five likeliest",
    "Brier score": "mean squared distance of the probabilities from the truth (0 best, 2 worst)",
    "calibration error": "mean gap between the stated probability and the share that is right, 15 bins",
    "label accuracy": "share of labels that are right",
    "exact match": "samples with all labels right",
    "loss": "mean of −log p of the right token or class at each place",
    "perplexity": "e to the loss: among how many tokens it hesitates",
    "bits a place": "the loss in bits",
    "R²": "share of the variance that is explained",
    "RMSE": "root of the mean squared error, in the target's units",
    "mean absolute error": "how far off on average, in the target's units",
    "bias": "mean of prediction − truth",
}
"""What the measures are, in words."""


class Result:
    """A number over the validation samples with its interval; `share`: shown in per cent."""

    def __init__(self, name: str, estimate: Estimate, share: bool = False, unit: str = "") -> None:
        self.name, self.estimate, self.share, self.unit = name, estimate, share, unit

    def say(self, x: float | None) -> str:
        """A value as it is shown."""
        if x is None:
            return "–"
        return percent(x) if self.share else Numeral(f"{number(x)}{' ' + self.unit if self.unit else ''}")

    @property
    def interval(self) -> str:
        """The interval in words."""
        low, high = self.estimate.low, self.estimate.high
        if low is None or high is None:
            return "–"
        if self.share:
            return f"{100 * low:.1f} to {100 * high:.1f} %".replace("-", "−")
        return f"{number(low, 3)} to {number(high, 3)}"

    @property
    def short(self) -> str:
        """``81.2 % [79.9, 82.4]``."""
        low, high = self.estimate.low, self.estimate.high
        value = self.say(self.estimate.value)
        if low is None or high is None:
            return value
        if self.share:
            return f"{value} [{100 * low:.1f}, {100 * high:.1f}]".replace("-", "−")
        return f"{value} [{number(low, 3)}, {number(high, 3)}]"


class Results:
    """All results of a run, and the sentence that sums them up."""

    def __init__(self, items: list[Result], summary: str) -> None:
        self.items, self.summary = items, summary

    def cards(self) -> list[Card]:
        """The first four, large."""
        return [
            Card(r.name, r.say(r.estimate.value), f"95 %: {r.interval}" if r.interval != "–" else "")
            for r in self.items[:4]
        ]

    def table(self) -> Table:
        """All of them."""
        rows = [
            [r.name, r.say(r.estimate.value), r.interval, MEANINGS[r.name.split(" of ")[0]]]
            for r in self.items
        ]
        return Table(["measure", "value", "95 % interval", "what it is"], rows)


def _column(x: Tensor) -> Tensor:
    return an.reshape(an.astype(x, _FLOAT), (-1, 1))


def _first(means: Tensor) -> Tensor:
    return means[..., 0]


def results_of(found: Evaluated, noun: str) -> Results:
    """The numbers that suit the task; `noun` is what the samples are called."""
    kinds: dict[str, Callable[[Evaluated, str], Results]] = {
        "classification": _classification,
        "dense": _dense,
        "multilabel": _multilabel,
        "regression": _regression,
    }
    if found.task not in kinds:
        return Results([], "")
    return kinds[found.task](found, noun)


def count_in_words(found: Evaluated, noun: str) -> str:
    """How many samples were looked at."""
    return (
        f"{len(found):,} held-out {noun}"
        if len(found) == found.total
        else f"{len(found):,} of {found.total:,} held-out {noun}"
    ) + (", each counted by its weight" if found.weights is not None else "")


# ----- classes -----


def _right(found: Evaluated) -> Tensor:
    return an.astype(found.predicted == found.target, _FLOAT)


def _classification(found: Evaluated, noun: str) -> Results:
    assert found.probabilities is not None
    right, classes = _right(found), len(found.names)
    accuracy = Result("accuracy", found.estimate(_column(right), _first), share=True)
    items = [accuracy]
    if classes <= 100:
        items += _over_classes(found, classes)
    items.append(Result("log-loss", found.estimate(_column(found.losses), _first), unit="nats"))
    if classes > 5:
        order = an.argsort(found.probabilities, axis=1, descending=True)[:, :5]
        among = an.astype(an.any(order == found.target[:, None], axis=1), _FLOAT)
        items.append(Result("top-5 accuracy", found.estimate(_column(among), _first), share=True))
    one_hot = an.astype(found.target[:, None] == an.arange(classes)[None, :], _FLOAT)
    brier = an.sum((found.probabilities - one_hot) ** 2, axis=1)
    items.append(Result("Brier score", found.estimate(_column(brier), _first)))
    top = an.max(found.probabilities, axis=1)
    error = Estimate(
        _calibration_error(
            top.tolist(), right.tolist(), None if found.weights is None else found.weights.tolist()
        )
    )
    items.append(Result("calibration error", error, share=True))
    confused = most_confused(found)
    more = f" Most confused: {confused[0][0]} → {confused[0][1]} ({confused[0][2]:,}×)." if confused else ""
    return Results(
        items, f"It reaches an accuracy of {accuracy.short} on {count_in_words(found, noun)}.{more}"
    )


def _over_classes(found: Evaluated, classes: int) -> list[Result]:
    """Means over the classes that occur."""
    is_class = an.astype(found.target[:, None] == an.arange(classes)[None, :], _FLOAT)
    says = an.astype(found.predicted[:, None] == an.arange(classes)[None, :], _FLOAT)

    def mean_ratio(m: Tensor) -> Tensor:
        """The mean of part / whole over the classes with a whole."""
        whole, part = m[..., :classes], m[..., classes:]
        there = an.astype(whole > 0, _FLOAT)
        return an.sum(part / an.where(whole > 0, whole, 1.0) * there, axis=-1) / an.sum(there, axis=-1)

    recall = an.concat([is_class, is_class * says], axis=1)
    f1 = an.concat([is_class + says, 2.0 * is_class * says], axis=1)
    return [
        Result("balanced accuracy", found.estimate(recall, mean_ratio), share=True),
        Result("macro F1", found.estimate(f1, mean_ratio), share=True),
    ]


def most_confused(found: Evaluated) -> list[tuple[str, str, int]]:
    """Pairs (truth, answer, how often), most frequent first."""
    pairs: dict[tuple[int, int], int] = {}
    for t, p in zip(found.target.tolist(), found.predicted.tolist(), strict=True):
        if t != p and t >= 0:
            pairs[t, p] = pairs.get((t, p), 0) + 1
    order = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(_name(found, t), _name(found, p), n) for (t, p), n in order]


def _name(found: Evaluated, i: int) -> str:
    return found.names[i] if 0 <= i < len(found.names) else str(i)


def _bins(
    confidence: Sequence[float], right: Sequence[float], count: int, weights: Sequence[float] | None = None
) -> list[tuple[float, float, float]]:
    """For each bin of the stated probability that has samples: how many (Σ of their weights), the mean probability, the share that
    is right."""
    sums = [[0.0, 0.0, 0.0] for _ in range(count)]
    for p, r, w in zip(confidence, right, weights or [1.0] * len(right), strict=True):
        if p == p:
            cell = sums[min(count - 1, int(p * count))]
            cell[0] += w
            cell[1] += w * p
            cell[2] += w * r
    return [(n, p / n, r / n) for n, p, r in sums if n]


def _calibration_error(
    confidence: Sequence[float], right: Sequence[float], weights: Sequence[float] | None
) -> float:
    bins = _bins(confidence, right, 15, weights)
    total = sum(n for n, _, _ in bins)
    return sum(n * abs(p - r) for n, p, r in bins) / total if total else math.nan


def _multilabel(found: Evaluated, noun: str) -> Results:
    assert found.right is not None
    label = Result(
        "label accuracy",
        found.estimate(_column(found.right), _first),
        share=True,
    )
    whole = an.astype(found.right == 1.0, _FLOAT)
    items = [
        label,
        Result(
            "exact match",
            found.estimate(_column(whole), _first),
            share=True,
        ),
        Result(
            "log-loss",
            found.estimate(_column(found.losses), _first),
            unit="nats",
        ),
    ]
    return Results(items, f"It sets {label.short} of the labels right on {count_in_words(found, noun)}.")


def _dense(found: Evaluated, noun: str) -> Results:
    assert found.right is not None
    loss = found.estimate(_column(found.losses), _first)

    def of(f: Callable[[float], float]) -> Estimate:
        return Estimate(*(None if v is None else f(v) for v in (loss.value, loss.low, loss.high)))  # type: ignore[arg-type]

    accuracy = Result(
        "accuracy",
        found.estimate(_column(found.right), _first),
        share=True,
    )
    items = [
        Result("loss", loss, unit="nats"),
        Result(
            "perplexity",
            of(lambda v: math.exp(min(v, 700.0))),
        ),
        accuracy,
        Result("bits a place", of(lambda v: v / math.log(2.0))),
    ]
    return Results(
        items,
        f"It reaches a loss of {items[0].short} (perplexity {items[1].say(items[1].estimate.value)}) on {count_in_words(found, noun)} with "
        f"{found.tokens:,} places, {accuracy.short} of them right.",
    )


# ----- numbers -----


def _regression(found: Evaluated, noun: str) -> Results:
    if found.target.shape[1] > _MOST_TARGETS:
        return _pooled(found, noun)
    items: list[Result] = []
    several = len(found.names) > 1
    said = ""
    for j, name in enumerate(found.names):
        y, p = found.target[:, j], found.predicted[:, j]
        centre = y - an.mean(y)
        features = an.stack([(p - y) ** 2, an.abs(p - y), centre, centre**2, p - y], axis=1)
        of = f" of {name}" if several else ""
        rmse = Result(
            f"RMSE{of}",
            found.estimate(features, lambda m: an.sqrt(m[..., 0])),
        )
        r2 = Result(
            f"R²{of}",
            found.estimate(features, lambda m: _explained(m[..., 0], m[..., 3] - m[..., 2] ** 2)),
        )
        items += [
            r2,
            rmse,
            Result(
                f"mean absolute error{of}",
                found.estimate(features, lambda m: m[..., 1]),
            ),
            Result(f"bias{of}", found.estimate(features, lambda m: m[..., 4])),
        ]
        if not said:
            target = "" if name == "target" else f" for {name}"
            said = (
                f"It explains {percent(r2.estimate.value)} of the variance (R² {r2.short}) "
                f"with an RMSE of {rmse.short}{target} on {count_in_words(found, noun)}."
            )
    return Results(items, said)


def _explained(error: Tensor, variance: Tensor) -> Tensor:
    """R²; NaN where the targets do not vary."""
    there = variance > 0
    return an.where(there, 1.0 - error / an.where(there, variance, 1.0), math.nan)


def _mean(found: Evaluated, y: Tensor) -> Tensor:
    if found.weights is None:
        return an.mean(y, axis=0)
    return an.sum(y * found.weights[:, None], axis=0) / an.sum(found.weights)


def _pooled(found: Evaluated, noun: str) -> Results:
    """Numbers over all targets together, of which there are too many to name each."""
    y, p = found.target, found.predicted
    squared = [an.mean(t**2, axis=1) for t in (p - y, y - _mean(found, y))]
    features = an.stack([*squared, an.mean(an.abs(p - y), axis=1)], axis=1)
    items = [
        Result("R²", found.estimate(features, lambda m: _explained(m[..., 0], m[..., 1]))),
        Result("RMSE", found.estimate(features, lambda m: an.sqrt(m[..., 0]))),
        Result("mean absolute error", found.estimate(features, lambda m: m[..., 2])),
    ]
    said = f"It explains {percent(items[0].estimate.value)} of the variance of {y.shape[1]:,} targets with an RMSE of {items[1].short}"
    return Results(items, f"{said} on {count_in_words(found, noun)}.")


# ----- figures -----


def predictions_section(found: Evaluated) -> Section | None:
    """What the network answers against what is true, as figures."""
    kinds: dict[str, Callable[[Evaluated], list[Any]]] = {
        "classification": lambda f: [*_confusion(f), *_reliability(f)],
        "dense": _places,
        "multilabel": _labels,
        "regression": _residuals,
    }
    if found.task not in kinds:
        return None
    lead = "What the network answers against what is true."
    if found.weights is not None:
        lead += " Shares of a class and of a probability count each sample by its weight; every other figure counts each once."
    return Section("Predictions", kinds[found.task](found), lead)


def _matrix(found: Evaluated, weighted: bool = False) -> dict[tuple[int, int], float]:
    """How many samples (`weighted`: the sum of their weights) of a class are taken for another."""
    cells: dict[tuple[int, int], float] = {}
    weights = found.weights.tolist() if weighted and found.weights is not None else [1] * len(found)
    for t, p, w in zip(found.target.tolist(), found.predicted.tolist(), weights, strict=True):
        if t >= 0:
            cells[t, p] = cells.get((t, p), 0) + w
    return cells


def _sums(cells: Mapping[tuple[int, int], float], n: int) -> tuple[list[float], list[float]]:
    """Of each class: its samples, and the samples that are taken for it."""
    support, says = [0.0] * n, [0.0] * n
    for (t, p), count in cells.items():
        support[t] += count
        says[p] += count
    return support, says


def _confusion(found: Evaluated) -> list[Any]:
    cells, n = {key: int(count) for key, count in _matrix(found).items()}, len(found.names)
    support, says = (list(map(int, sums)) for sums in _sums(cells, n))
    wrong = [support[i] - cells.get((i, i), 0) + says[i] - cells.get((i, i), 0) for i in range(n)]
    shown = sorted(sorted(range(n), key=lambda i: (-wrong[i], i))[:SHOWN_CLASSES])
    share = [[cells.get((t, p), 0) / support[t] if support[t] else 0.0 for p in shown] for t in shown]
    texts = [[f"{cells.get((t, p), 0):,}" if cells.get((t, p)) else "" for p in shown] for t in shown]
    names = [found.names[i] for i in shown]

    def tip(i: int, j: int) -> str:
        count = cells.get((shown[i], shown[j]), 0)
        return f"{names[i]} taken for {names[j]}: {count:,} of {support[shown[i]]:,} ({percent(share[i][j])})"

    some = "" if len(shown) == n else f" The {len(shown)} of {n:,} classes with the most mistakes."
    svg = heat_map(
        share,
        names,
        names,
        title="Confusion matrix",
        row_label="truth",
        column_label="answer",
        tip=tip,
        texts=texts,
    )
    whole = Table(
        ["truth ↓ answer →", *names, "all"],
        [[found.names[t], *(cells.get((t, p), 0) for p in shown), support[t]] for t in shown],
    )
    blocks: list[Any] = [
        Figure(
            svg,
            "Confusion matrix",
            "Rows are the truth; the colour is the share of the row, the number the samples." + some,
            whole,
        )
    ]
    blocks.append(_per_class(found, support))
    pairs = most_confused(found)[:12]
    if pairs:
        rows = [
            [a, b, c, percent(c / support[found.names.index(a)]) if a in found.names else "–"]
            for a, b, c in pairs
        ]
        blocks.append(
            Table(["truth", "answer", "samples", "of that class"], rows, "Most frequent mistakes", wide=False)
        )
    return blocks


def _per_class(found: Evaluated, samples: list[int]) -> Figure:
    cells = _matrix(found, weighted=True)
    support, says = _sums(cells, len(samples))
    rows = []
    for i, name in enumerate(found.names):
        hit = cells.get((i, i), 0)
        recall = hit / support[i] if support[i] else math.nan
        precision = hit / says[i] if says[i] else math.nan
        f1 = 2 * hit / (support[i] + says[i]) if support[i] + says[i] else math.nan
        rows.append((name, samples[i], recall, precision, f1))
    seen = [r for r in rows if r[1]]
    worst = sorted(seen, key=lambda r: r[2])[:SHOWN_CLASSES] if len(seen) > SHOWN_CLASSES else seen
    effective = dict(zip(found.names, _effective(found, found.target.tolist(), samples), strict=True))
    intervals = [_wilson(r[2], effective[r[0]]) for r in worst]
    svg = bars(
        [r[0] for r in worst],
        [r[2] for r in worst],
        title="Recall by class",
        intervals=intervals,
        limits=(0.0, 1.0),
        say=percent,
    )
    shown = (
        sorted(rows, key=lambda r: (r[2] if r[2] == r[2] else 2.0, -r[1]))[:200] if len(rows) > 200 else rows
    )
    table = Table(
        ["class", "samples", "recall", "precision", "F1"],
        [[n, s, percent(r), percent(p), percent(f)] for n, s, r, p, f in shown],
        note=f"the 200 of {len(rows):,} classes with the lowest recall" if len(rows) > 200 else "",
    )
    title = "Recall by class" if len(worst) == len(seen) else f"The {len(worst)} classes that are found least"
    weighted = "" if found.weights is None else f" Samples count by their weights{_KISH}"
    said = f"Share of each class that is found, with 95 % intervals (Wilson).{weighted}"
    return Figure(svg, title, said, table)


_KISH = "; the intervals are those of (Σ w)² / Σ w² samples (Kish 1965)."


def _effective(found: Evaluated, groups: Sequence[int], counts: Sequence[float]) -> list[float]:
    """For each group of samples, how many of one weight would say as much: (Σ w)² / Σ w²; `counts` where there are no weights."""
    if found.weights is None:
        return list(counts)
    sums = [[0.0, 0.0] for _ in counts]
    for group, w in zip(groups, found.weights.tolist(), strict=True):
        if 0 <= group < len(sums):
            sums[group][0] += w
            sums[group][1] += w * w
    return [a * a / b if b else 0.0 for a, b in sums]


def _wilson(p: float, n: float) -> tuple[float, float] | None:
    """The interval of a share p of n (Wilson 1927)."""
    if not n or p != p:
        return None
    z = 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _reliability(found: Evaluated) -> list[Any]:
    assert found.probabilities is not None
    top = an.max(found.probabilities, axis=1).tolist()
    right, weights = _right(found).tolist(), None if found.weights is None else found.weights.tolist()
    bins = _bins(top, right, 10, weights)
    if not bins:
        return []
    x, y = [p for _, p, _ in bins], [r for _, _, r in bins]
    places = [min(9, int(p * 10)) if p == p else -1 for p in top]
    counts = [places.count(i) for i in range(10)]
    sizes = [(n, k) for n, k in zip(_effective(found, places, counts), counts, strict=True) if n]
    pairs = [_wilson(r, n) or (r, r) for (_, _, r), (n, _) in zip(bins, sizes, strict=True)]
    curve = Series("share that is right", x, y, low=[a for a, _ in pairs], high=[b for _, b in pairs])
    svg = lines(
        [curve],
        title="Calibration",
        x_label="stated probability of the answer",
        y_label="share that is right",
        log_y=False,
        y_range=(0.0, 1.0),
        guide=True,
        say=percent,
    )
    rows = [[percent(p), percent(r), k] for (_, p, r), (_, k) in zip(bins, sizes, strict=True)]
    gap = sum(n * (p - r) for n, p, r in bins) / sum(n for n, _, _ in bins)
    said = (
        "It states higher probabilities than it earns."
        if gap > 0.02
        else "It is more careful than it needs to be."
        if gap < -0.02
        else "Stated and earned probabilities agree on average."
    )
    return [
        Figure(
            svg,
            "Calibration",
            f"On the dashed line a stated 80 % is right in 80 % of cases. {said}"
            + ("" if weights is None else f" Samples count by their weights{_KISH}"),
            Table(["stated", "right", "samples"], rows),
        )
    ]


def _places(found: Evaluated) -> list[Any]:
    blocks: list[Any] = []
    if len(found.by_place) > 1:
        curve = Series("loss", list(range(1, len(found.by_place) + 1)), found.by_place)
        head, rows, note = table_of([curve], "place", 100)
        svg = lines(
            [curve],
            title="Loss by place",
            x_label="place in the sample",
            y_label="loss (nats)",
            log_y=False,
            whole=True,
        )
        blocks.append(
            Figure(svg, "Loss by place", "Later places have seen more context.", Table(head, rows, note=note))
        )
    edges, counts = binned(found.losses.tolist(), 30)
    svg = histogram(
        edges, counts, title="Losses of samples", x_label="mean loss of a sample (nats)", y_label="samples"
    )
    blocks.append(Figure(svg, "Losses of samples", "", _bin_table(edges, counts)))
    return blocks


def _labels(found: Evaluated) -> list[Any]:
    right = an.mean(an.astype(found.predicted == found.target, _FLOAT), axis=0).tolist()
    base = an.mean(found.target, axis=0).tolist()
    rows = sorted(zip(found.names, right, base, strict=True), key=lambda r: r[1])
    shown = rows[:SHOWN_CLASSES]
    svg = bars(
        [r[0] for r in shown],
        [r[1] for r in shown],
        title="Accuracy by label",
        limits=(0.0, 1.0),
        say=percent,
    )
    table = Table(
        ["label", "accuracy", "share of samples that have it"],
        [[a, percent(b), percent(c)] for a, b, c in rows[:200]],
    )
    return [Figure(svg, "Accuracy by label", "", table)]


def binned(values: Sequence[float], count: int) -> tuple[list[float], list[int]]:
    """Edges and counts of equally wide bins over the finite values."""
    real = [v for v in values if v is not None and math.isfinite(v)]
    if not real:
        return [0.0, 1.0], [0]
    low, high = min(real), max(real)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / count
    counts = [0] * count
    for v in real:
        counts[min(count - 1, int((v - low) / width))] += 1
    return [low + i * width for i in range(count)] + [high], counts


def _bin_table(edges: Sequence[float], counts: Sequence[float]) -> Table:
    return Table(
        ["from", "to", "samples"], [[a, b, n] for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    )


def _residuals(found: Evaluated) -> list[Any]:
    if len(found.names) > _MOST_TARGETS:
        errors = an.reshape(found.predicted - found.target, (-1,))
        values = errors[:: max(1, int(errors.shape[0]) // 50_000)].tolist()
        return [_histogram_of(values, "Residuals", "numbers", "Of all targets together. ")]
    blocks: list[Any] = []
    for j, name in enumerate(found.names[:4]):
        blocks += _residuals_of(found, j, "" if name == "target" else f": {name}")
    if len(found.names) > 4:
        more = len(found.names) - 4
        blocks.append(Words(f"{more} more targets are left out here; their numbers stand among the results."))
    return blocks


def _histogram_of(values: Sequence[float], title: str, what: str, before: str = "") -> Figure:
    edges, counts = binned(values, 36)
    svg = histogram(edges, counts, title=title, x_label="prediction − truth", y_label=what)
    return Figure(svg, title, before + _off_by(values), _bin_table(edges, counts))


def _residuals_of(found: Evaluated, j: int, of: str) -> list[Figure]:
    """The three figures of one target."""
    y, p = found.target[:, j].tolist(), found.predicted[:, j].tolist()
    tips = [
        f"sample {i}: truth {number(a)}, prediction {number(b)}"
        for i, a, b in zip(found.indices, y, p, strict=True)
    ]
    rest = [b - a for a, b in zip(y, p, strict=True)]
    step = math.ceil(len(y) / 100)
    table = Table(
        ["sample", "truth", "prediction", "residual"],
        [[found.indices[i], y[i], p[i], rest[i]] for i in range(0, len(y), step)],
        note=f"every {step}th sample" if step > 1 else "",
    )
    titles = f"Prediction against truth{of}", f"Residuals against predictions{of}"
    against = scatter(y, p, title=titles[0], x_label="truth", y_label="prediction", diagonal=True, tips=tips)
    left = scatter(
        p, rest, title=titles[1], x_label="prediction", y_label="prediction − truth", zero=True, tips=tips
    )
    funnel = "A funnel or a bend here says what the network does not see yet."
    return [
        Figure(against, titles[0], "On the dashed line a prediction is exact.", table),
        _histogram_of(rest, f"Residuals{of}", "samples"),
        Figure(left, titles[1], funnel, _by_decile(p, rest)),
    ]


def _off_by(values: Sequence[float]) -> str:
    real = sorted(abs(v) for v in values if math.isfinite(v))
    if not real:
        return ""
    half, most = real[len(real) // 2], real[min(len(real) - 1, int(0.9 * len(real)))]
    return f"Half of the predictions are off by at most {number(half, 3)}, nine in ten by at most {number(most, 3)}."


def _by_decile(p: Sequence[float], rest: Sequence[float]) -> Table:
    order = sorted(range(len(p)), key=lambda i: p[i])
    rows = []
    for k in range(10):
        part = order[k * len(order) // 10 : (k + 1) * len(order) // 10]
        if part:
            r = [rest[i] for i in part]
            mean = sum(r) / len(r)
            rows.append(
                [
                    p[part[0]],
                    p[part[-1]],
                    len(part),
                    mean,
                    math.sqrt(sum((v - mean) ** 2 for v in r) / len(r)),
                ]
            )
    return Table(
        ["prediction from", "to", "samples", "mean residual", "its deviation"],
        rows,
        note="tenths of the samples by prediction",
    )
