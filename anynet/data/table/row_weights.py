"""The column that says how much each row counts."""

from __future__ import annotations

from anynet.data.table.frame import HOST, Column
from anynet.data.table.interpretation import interpreted
from anynet_backends import Array

__all__ = ["check_total", "row_weights"]


def row_weights(where: str, name: str, column: Column, numbers: Array | None = None) -> Array:
    """The weights w ≥ 0 of the rows, float32 (n,): a row of weight 2 counts as two rows do, one of 0 not at all.

    `numbers`: those of the rows in their table, for messages.

    Errors: ValueError with the row for what is missing, negative, infinite or no number.
    """
    read = interpreted(name, column, [])
    if read.kind not in ("number", "boolean"):
        msg = f"{where}: the weight {name!r} must be a column of numbers ≥ 0, got {read.kind}s"
        raise ValueError(msg)
    values = HOST.astype(read.values, HOST.float64)
    for wrong, what, instead in (
        (read.missing(), "missing", "; give 0 to rows that are not to count"),
        (values < 0, "negative", ""),
        (HOST.isinf(values), "infinite", ""),
        (values > HOST.finfo(HOST.float32).max, "too large for float32", ""),
    ):
        rows = HOST.nonzero(wrong)[0]
        if len(rows):
            number = int(rows[0] if numbers is None else numbers[rows[0]]) + 1
            said = "" if what == "missing" else f", {float(values[rows[0]]):g}"
            msg = f"{where}: the weight {name!r} must be a number ≥ 0 in each row, and is {what} in row {number}{said}{instead}"
            raise ValueError(msg)
    return HOST.astype(values, HOST.float32)


def check_total(part: str, name: str, weights: Array) -> None:
    """ValueError where no row of a part counts."""
    if not float(HOST.sum(weights)) > 0:
        msg = f"Table: the weight {name!r} is 0 in all {len(weights)} rows of the {part} part"
        raise ValueError(msg)
