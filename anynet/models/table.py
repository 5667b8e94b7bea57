"""Networks for tables: numbers and categories in, numbers or classes out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import anynet.ops.elementwise as e
from anynet.models.options import activation_class, check_probability, check_sizes
from anynet.nn import init
from anynet.nn.containers import ModuleList, Sequential
from anynet.nn.dropout import Dropout
from anynet.nn.embedding import Embedding
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.creation import empty
from anynet.ops.linear import matmul
from anynet.ops.manipulation import concat, permute_dims, reshape
from anynet.tensor import Parameter, Tensor, unwrap

__all__ = ["PeriodicEmbedding", "TableLinear", "TableMLP"]


class PeriodicEmbedding(Module):
    """Each number x_j as a vector: x_j itself, and W_j cos(2π(ω_j x_j + b_j)) + c_j, with frequencies ω_j of its own.

    Shapes: (n, features) → (n, features · width). The frequencies are drawn from N(0, `scale`²), and trained. A network that sees a
    number in this way follows steep and jagged functions of it much better than one that sees the number alone.

    >>> import anynet as an
    >>> an.models.PeriodicEmbedding(3, width=4)(an.ones((5, 3))).shape
    (5, 12)

    Source: Gorishniy et al.: On embeddings for numerical features in tabular deep learning (2022); the form with x_j and a bias is
    Holzmüller et al.: Better by default (2024).
    """

    def __init__(self, features: int, width: int = 4, frequencies: int = 16, scale: float = 1.0) -> None:
        check_sizes("PeriodicEmbedding", features=features, frequencies=frequencies)
        if not isinstance(width, int) or width < 2:
            msg = f"PeriodicEmbedding: width must be an integer ≥ 2, got {width!r}"
            raise ValueError(msg)
        self.features, self.width = features, width
        self.frequency = Parameter(empty((features, 1, frequencies)))
        self.phase = Parameter(empty((features, 1, frequencies)))
        self.weight = Parameter(empty((features, frequencies, width - 1)))
        self.bias = Parameter(empty((features, 1, width - 1)))
        bound = 1 / math.sqrt(frequencies)
        init.normal_(self.frequency, std=scale)
        init.uniform_(self.phase, -0.5, 0.5)
        init.uniform_(self.weight, -bound, bound)
        init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """The vectors, side by side."""
        x = reshape(permute_dims(x, (1, 0)), (self.features, -1, 1))
        waves = e.cos((x * self.frequency + self.phase) * (2 * math.pi))
        both = concat([x, matmul(waves, self.weight) + self.bias], axis=2)
        return reshape(permute_dims(both, (1, 0, 2)), (-1, self.features * self.width))


class TableMLP(Module):
    """A multilayer perceptron on numbers and categories: y = MLP([embedding of each number, embedding of each category]).

    Shapes: numbers (n, `numbers`) and categories (n, `len(categories)`), integers → (n, `outputs`).

    Parameters:
      numbers, categories: how many numbers there are, and how many values each category has (with 0, the unknown one).
      outputs: classes (the outputs are logits) or predicted numbers.
      hidden: the widths of the layers between.
      activation: relu, gelu, silu, … (`anynet.nn`'s activations by name).
      dropout: the probability with which a hidden unit is set to zero in training.
      embedding: "periodic" (`PeriodicEmbedding`), or None: the numbers as they are.
      embedding_width: numbers that stand for a number where they are embedded.
      category_width: the largest number of numbers that stand for a category; one of k values takes min(this, 2 + k // 2).

    The embedding of the unknown category is zero at first.

    >>> import anynet as an
    >>> net = an.models.TableMLP(3, [4, 7], outputs=2)
    >>> net(an.ones((5, 3)), an.zeros((5, 2), dtype="int64")).shape
    (5, 2)
    """

    def __init__(
        self,
        numbers: int,
        categories: Sequence[int] = (),
        outputs: int = 1,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        dropout: float = 0.0,
        embedding: str | None = "periodic",
        embedding_width: int = 4,
        category_width: int = 16,
    ) -> None:
        widths = list(hidden) if isinstance(hidden, Sequence) else [hidden]
        sizes = {f"hidden[{i}]": w for i, w in enumerate(widths)}
        sizes |= {f"categories[{i}]": k for i, k in enumerate(categories)}
        check_sizes("TableMLP", outputs=outputs, category_width=category_width, **sizes)
        check_probability("TableMLP", dropout=dropout)
        _check_inputs("TableMLP", numbers, categories)
        if embedding not in (None, "periodic"):
            msg = f"TableMLP: embedding must be 'periodic' or None, got {embedding!r}"
            raise ValueError(msg)
        self.numbers = numbers
        self.embedding = PeriodicEmbedding(numbers, embedding_width) if embedding and numbers else None
        wide = [min(category_width, 2 + k // 2) for k in categories]
        self.categories = ModuleList([_embedding(k, w) for k, w in zip(categories, wide, strict=True)])
        before = numbers * (embedding_width if self.embedding is not None else 1) + sum(wide)
        act = activation_class("TableMLP", activation)
        layers: list[Module] = []
        for width in widths:
            layers += [Linear(before, width), act(), *([Dropout(dropout)] if dropout else [])]
            before = width
        self.layers = Sequential(*layers, Linear(before, outputs))

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """The outputs; `categories` are left away where there are none."""
        parts: list[Any] = []
        if self.numbers:
            parts.append(numbers if self.embedding is None else self.embedding(numbers))
        if len(self.categories):
            chosen = _categories(self, categories, len(self.categories))
            parts += [table(chosen[:, i]) for i, table in enumerate(self.categories)]
        y: Tensor = self.layers(parts[0] if len(parts) == 1 else concat(parts, axis=1))
        return y


class TableLinear(Module):
    """A linear model of numbers and categories: y = W x + b + Σⱼ (row c_j of the table of category j).

    Shapes: numbers (n, `numbers`) and categories (n, `len(categories)`), integers → (n, `outputs`). With cross-entropy it is
    logistic regression.

    >>> import anynet as an
    >>> an.models.TableLinear(3, [4], outputs=2)(an.ones((5, 3)), an.zeros((5, 1), dtype="int64")).shape
    (5, 2)
    """

    def __init__(self, numbers: int, categories: Sequence[int] = (), outputs: int = 1) -> None:
        check_sizes(
            "TableLinear", outputs=outputs, **{f"categories[{i}]": k for i, k in enumerate(categories)}
        )
        _check_inputs("TableLinear", numbers, categories)
        self.numbers = numbers
        self.linear = Linear(numbers, outputs) if numbers else None
        self.categories = ModuleList([_embedding(k, outputs, 0.01) for k in categories])

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """The outputs; `categories` are left away where there are none."""
        parts: list[Tensor] = [] if self.linear is None else [self.linear(numbers)]
        if len(self.categories):
            chosen = _categories(self, categories, len(self.categories))
            parts += [table(chosen[:, i]) for i, table in enumerate(self.categories)]
        return functools.reduce(lambda a, b: a + b, parts)


def _check_inputs(where: str, numbers: int, categories: Sequence[int]) -> None:
    if (
        not isinstance(numbers, int)
        or isinstance(numbers, bool)
        or numbers < 0
        or not (numbers or categories)
    ):
        msg = f"{where}: numbers must be an integer ≥ 0, with categories where it is 0, got {numbers!r}"
        raise ValueError(msg)


def _embedding(size: int, width: int, std: float = 0.5) -> Embedding:
    table = Embedding(size, width)
    init.normal_(table.weight, std=std)
    unwrap(table.weight)[0, ...] = 0.0
    return table


def _categories(module: Module, categories: Tensor | None, count: int) -> Tensor:
    if categories is None:
        msg = f"{type(module).__name__}: expected numbers and categories of shape (n, {count}), got numbers alone"
        raise TypeError(msg)
    return categories
