"""The confusion matrix as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anynet.ops.creation import asarray
from anynet.ops.reductions import argmax
from anynet.tensor import Tensor
from anynet.viz.figures import axes
from anynet.viz.svg import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusion"]


def confusion(
    target: Any,
    answer: Any = None,
    *,
    classes: Sequence[str] | None = None,
    normalize: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """How often each class is taken for each other: rows are the truth, columns the answers.

    `target` holds class numbers and `answer` class numbers or scores (samples, classes); or `target` alone is the matrix of counts. With
    `normalize` the colour is the share of the row, else the count; the cells show counts.

    >>> import anynet as an
    >>> ax = an.viz.confusion([0, 1, 1], [0, 1, 0], classes=["cat", "dog"])  # doctest: +SKIP
    """
    counts = _counts(target, answer, None if classes is None else len(classes))
    n = len(counts)
    if classes is not None and len(classes) != n:
        msg = f"viz.confusion: classes must have {n} names, got {len(classes)}"
        raise ValueError(msg)
    names = [str(c) for c in classes] if classes is not None else [str(i) for i in range(n)]
    sums = [sum(row) for row in counts]
    shown = (
        [[v / (s or 1) for v in row] for row, s in zip(counts, sums, strict=True)] if normalize else counts
    )
    side = min(9.0, 2.2 + 0.45 * n)
    ax = axes(ax, (side + 0.8, side), plain=True)
    picture = ax.imshow(shown, cmap="Blues", vmin=0, vmax=1 if normalize else None)
    ax.set(xlabel="answer", ylabel="truth")
    step = max(1, n // 25)
    ax.set_xticks(
        range(0, n, step),
        names[::step],
        rotation=45 if max(map(len, names)) > 3 else 0,
        ha="right" if max(map(len, names)) > 3 else "center",
    )
    ax.set_yticks(range(0, n, step), names[::step])
    if n <= 20:
        top = max(max(row) for row in shown)
        for i, row in enumerate(counts):
            for j, v in enumerate(row):
                if v:
                    ax.text(
                        j,
                        i,
                        number(v),
                        ha="center",
                        va="center",
                        fontsize="small",
                        color="white" if shown[i][j] > 0.5 * top else "black",
                    )
    ax.figure.colorbar(picture, ax=ax, label="share of the row" if normalize else "samples", shrink=0.85)
    return ax


def _counts(target: Any, answer: Any, classes: int | None) -> list[list[Any]]:
    t = target.detach() if isinstance(target, Tensor) else asarray(target)
    if answer is None:
        if t.ndim != 2 or t.shape[0] != t.shape[1]:
            msg = f"viz.confusion: without answers target must be a square matrix of counts, got shape {tuple(t.shape)}"
            raise ValueError(msg)
        return t.tolist()  # type: ignore[no-any-return]
    p = answer.detach() if isinstance(answer, Tensor) else asarray(answer)
    if p.ndim == 2:
        classes, p = classes or int(p.shape[1]), argmax(p, axis=1)
    if t.ndim != 1 or t.shape != p.shape:
        msg = f"viz.confusion: target and answer must have one class number a sample, got shapes {tuple(t.shape)} and {tuple(p.shape)}"
        raise ValueError(msg)
    pairs = [(int(a), int(b)) for a, b in zip(t.tolist(), p.tolist(), strict=True)]
    n = classes or max((max(pair) for pair in pairs), default=-1) + 1
    wrong = next((v for pair in pairs for v in pair if not 0 <= v < n), None)
    if wrong is not None or not n:
        msg = f"viz.confusion: class numbers must be in [0, {n}), got {wrong}"
        raise ValueError(msg)
    found = [[0] * n for _ in range(n)]
    for a, b in pairs:
        found[a][b] += 1
    return found
