"""The samples that the network does worst and best: as pictures, texts or rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import anynet as an
from anynet.autograd.pytree import flatten
from anynet.reports.evaluation import Evaluated
from anynet.reports.pictures import data_uri, is_picture, thumbnail
from anynet.reports.sections import Example, Gallery, Section, Table, percent
from anynet.tensor import Tensor
from anynet.viz.svg import number

__all__ = ["examples_section"]

_PICTURES, _ROWS, _TEXTS = 12, 8, 6
_PICTURE_BYTES = 300_000  # of all pictures together


def examples_section(found: Evaluated, preprocessing: Any, samples: Any = None) -> Section | None:
    """Worst and best samples; `samples` are rows as they came (a dict of columns), where there are some. None where no loss is known."""
    worst = found.hardest(_PICTURES)
    if not worst:
        return None
    if found.task == "classification":
        wrong = [i for i in found.hardest(len(found)) if int(found.predicted[i]) != int(found.target[i])]
        worst = wrong[:_PICTURES] or worst
    best = found.hardest(_PICTURES // 2, easiest=True)
    first = _leaves(found.sample(worst[0]))
    if len(first) == 1 and is_picture(tuple(first[0].shape)):
        return _pictures(found, worst, best, preprocessing)
    if found.task == "dense":
        return _texts(found, worst[:_TEXTS], best[: _TEXTS // 2], preprocessing)
    return _rows(found, worst[:_ROWS], best[: _ROWS // 2], preprocessing, samples)


def _leaves(sample: Any) -> list[Tensor]:
    made = []
    for leaf in flatten(sample)[0]:
        if isinstance(leaf, (Tensor, int, float)) or hasattr(leaf, "shape"):
            made.append(leaf if isinstance(leaf, Tensor) else an.asarray(leaf))
    return made


def _lines(found: Evaluated, i: int) -> list[str]:
    """What is true and what was answered."""
    if found.task == "classification":
        assert found.probabilities is not None
        t, p = int(found.target[i]), int(found.predicted[i])
        truth = found.names[t] if 0 <= t < len(found.names) else str(t)
        said = f"{found.names[p]} {percent(float(found.probabilities[i, p]))}"
        return (
            [f"is {truth}", f"says {said}"]
            if t != p
            else [f"is {truth}, {percent(float(found.probabilities[i, p]))}"]
        )
    if found.task == "regression":
        return [f"is {number(found.target[i, 0].tolist())}", f"says {number(found.predicted[i, 0].tolist())}"]
    return [f"loss {number(found.losses[i].tolist(), 3)}"]


# ----- pictures -----


def _pictures(found: Evaluated, worst: list[int], best: list[int], preprocessing: Any) -> Section:
    mean, std = _statistics(preprocessing)
    most = 72
    while True:
        made = {
            i: thumbnail(_leaves(found.sample(i))[0], mean, std, most) for i in dict.fromkeys((*worst, *best))
        }
        addresses = {i: data_uri(pixels) for i, (pixels, _, _) in made.items()}
        if sum(map(len, addresses.values())) <= _PICTURE_BYTES or most <= 16:
            break
        most = int(most * 0.75)

    def example(i: int) -> Example:
        pixels = made[i][0]
        return Example(
            f"sample {found.indices[i]:,}", _lines(found, i), addresses[i], pixelated=max(pixels.shape[:2]) < 100,
            wrong=found.task == "classification" and int(found.predicted[i]) != int(found.target[i]), text="",
        )  # fmt: skip

    return Section(
        "Examples",
        [
            Gallery("Worst", [example(i) for i in worst], "The samples with the largest loss, worst first."),
            Gallery("Best", [example(i) for i in best], "The samples with the smallest loss."),
        ],
        "What it gets most wrong often says more than the average.",
    )


def _statistics(preprocessing: Any) -> tuple[list[float] | None, list[float] | None]:
    found = []
    for name in ("mean", "std"):
        value = getattr(preprocessing, name, None)
        if isinstance(value, Tensor):
            value = value.tolist()
        if isinstance(value, (int, float)):
            value = [float(value)]
        found.append(
            [float(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else None
        )
    return found[0], found[1]


# ----- texts -----


def _decoder(preprocessing: Any) -> Any:
    """A function from token numbers to text, where the preprocessing has one."""
    if callable(getattr(preprocessing, "decode_ids", None)):
        return preprocessing.decode_ids
    for name in ("vocabulary", "tokenizer", "tokens"):
        decode = getattr(getattr(preprocessing, name, None), "decode", None)
        if callable(decode):
            return decode
    return None


def _texts(found: Evaluated, worst: list[int], best: list[int], preprocessing: Any) -> Section | None:
    decode = _decoder(preprocessing)
    if decode is None:
        return None

    def example(i: int) -> Example:
        tokens = [int(t) for t in _leaves(found.sample(i))[0].tolist()]
        return Example(
            f"sample {found.indices[i]:,}",
            [f"loss {number(found.losses[i].tolist(), 3)} nats"],
            text=str(decode(tokens))[:400],
        )

    return Section(
        "Examples",
        [
            Gallery("Worst", [example(i) for i in worst], "The passages that surprise it most."),
            Gallery("Best", [example(i) for i in best], "The passages that surprise it least."),
        ],
    )


# ----- rows -----


def _rows(
    found: Evaluated, worst: list[int], best: list[int], preprocessing: Any, samples: Any
) -> Section | None:
    def table(chosen: list[int], title: str) -> Table:
        heads, rows = _cells(found, chosen, preprocessing, samples)
        answers = [_answer(found, i) for i in chosen]
        return Table(
            ["sample", *answers[0][0], *heads],
            [
                [f"{found.indices[i]:,}", *a[1], *cells]
                for i, a, cells in zip(chosen, answers, rows, strict=True)
            ],
            title,
        )

    tables = [
        table(worst, "Worst: the samples with the largest loss"),
        table(best, "Best: the samples with the smallest loss"),
    ]
    return Section("Examples", tables, "What it gets most wrong often says more than the average.")


def _answer(found: Evaluated, i: int) -> tuple[list[str], list[Any]]:
    if found.task == "classification":
        assert found.probabilities is not None
        t, p = int(found.target[i]), int(found.predicted[i])
        truth = found.names[t] if 0 <= t < len(found.names) else str(t)
        return ["truth", "answer", "probability"], [
            truth,
            found.names[p],
            percent(float(found.probabilities[i, p])),
        ]
    if found.task == "regression":
        names, cells = [], []
        for j, name in enumerate(found.names[:2]):
            of = "" if len(found.names) == 1 else f" {name}"
            names += [f"truth{of}", f"prediction{of}"]
            cells += [found.target[i, j].tolist(), found.predicted[i, j].tolist()]
        return names, cells
    return ["loss"], [found.losses[i].tolist()]


def _cells(
    found: Evaluated, chosen: list[int], preprocessing: Any, samples: Any
) -> tuple[list[str], list[list[Any]]]:
    """The columns of some samples: as they came, else the numbers that the network is given."""
    if isinstance(samples, Mapping) and samples:
        targets = getattr(preprocessing, "target_names", ())
        columns = [c for c in samples if c not in targets][:14]
        rows_of = [[_plain(samples[c][found.indices[i]]) for c in columns] for i in chosen]
        return [str(c) for c in columns], rows_of
    rows = []
    for i in chosen:
        values: list[Any] = []
        for leaf in _leaves(found.sample(i)):
            values += an.reshape(leaf, (-1,))[:12].tolist()
        rows.append([float(v) if isinstance(v, float) else v for v in values[:12]])
    count = len(rows[0]) if rows else 0
    names = getattr(preprocessing, "feature_names", None)
    heads = (
        [str(n) for n in names[:count]]
        if isinstance(names, Sequence) and len(names) >= count
        else [f"x{j}" for j in range(count)]
    )
    return heads, [r[:count] for r in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return "–"
    return value if isinstance(value, (int, float)) else "–" if value is None else str(value)[:60]
