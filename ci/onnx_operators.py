"""The table of docs/onnx.md: `python -m ci.onnx_operators` writes it from the tables of `anynet.onnx`; a test compares."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anynet.onnx.control import CONTROL
from anynet.onnx.layers import LAYERS
from anynet.onnx.operators import DOMAINS, TABLE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "onnx.md"
BEGIN, END = "<!-- operators: written by ci/onnx_operators.py -->\n", "<!-- end of operators -->\n"
LAYER = {
    "BatchNormalization": "BatchNorm1d … 3d", "Conv": "Conv1d … 3d", "ConvTranspose": "ConvTranspose1d … 3d", "Dropout": "Dropout",
    "Gather": "Embedding", "Gemm": "Linear", "GRU": "GRU", "InstanceNormalization": "InstanceNorm1d … 3d", "LSTM": "LSTM",
    "LayerNormalization": "LayerNorm", "MatMul": "Linear", "PRelu": "PReLU", "RMSNormalization": "RMSNorm", "RNN": "RNN",
}  # fmt: skip
"""What a node becomes whose weights are in the file."""


@functools.cache
def bodies() -> dict[str, bool]:
    """The operators of ONNX's domain that have no row: whether they are computed by the body that ONNX gives for them."""
    import onnx  # of the extra

    newest: dict[str, Any] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain and schema.name not in TABLE and not schema.deprecated:
            newest[schema.name] = max(newest.get(schema.name, schema), schema, key=lambda s: s.since_version)
    found = {}
    for name, schema in newest.items():
        inside = [n.op_type for n in schema.function_body.node] if schema.has_function else []
        found[name] = name in CONTROL or (
            bool(schema.has_context_dependent_function or inside)
            and name not in _WITHOUT
            and all(n in TABLE or n in CONTROL for n in inside)
        )
    return found


_WITHOUT = {"SequenceMap"}
"""Its body, made when the types are known, takes operators that are not offered."""


def offered(name: str, domain: str = "") -> bool:
    """Whether anynet computes an operator."""
    return name in DOMAINS.get(domain, {}) or (not domain and bodies().get(name, False))


def lines() -> Iterator[str]:
    """The table, and what is not in it."""
    yield "| operator | layer, where its weights are in the file | otherwise |\n| --- | --- | --- |\n"
    for name in sorted({*TABLE, *(n for n, yes in bodies().items() if yes)}, key=str.lower):
        by = (
            "a function of anynet"
            if name in TABLE
            else "its own graphs"
            if name in CONTROL
            else "the functions of ONNX's body for it"
        )
        yield f"| {name} | {f'`nn.{LAYER[name]}`' if name in LAYERS else ''} | {by} |\n"
    yield f"\nOf the domain ai.onnx.ml: {', '.join(sorted(DOMAINS['ai.onnx.ml']))}.\n"
    yield f"\nNot offered: {', '.join(sorted((n for n, yes in bodies().items() if not yes), key=str.lower))}.\n"


def page() -> str:
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + "".join(lines()) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
