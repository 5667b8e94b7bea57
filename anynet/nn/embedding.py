"""Embedding and EmbeddingBag: rows of a table, looked up by integers."""

from __future__ import annotations

from typing import Any

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.tensor import Parameter, Tensor, unwrap
from anynet.typing import ArrayLike

__all__ = ["Embedding", "EmbeddingBag"]


@equation(F.embedding, where="i = index")
class Embedding(Module):
    """Integers (…) → rows of `weight` (num_embeddings, embedding_dim), drawn from N(0, 1).

    The row `padding_idx` is zero at first and receives no gradient. With `max_norm` a row that is looked up and whose
    `norm_type`-norm is larger is first scaled to that norm, in place; `scale_grad_by_freq` divides the gradient of a row
    by the number of times that it was looked up. With `sparse` the gradient of `weight` is `anynet.SparseRows`, the rows that were
    looked up, which `SGD`, `Adagrad` and `SparseAdam` take; it does not go together with `scale_grad_by_freq` (ValueError).

    >>> import anynet as an
    >>> words = an.nn.Embedding(10, 3, padding_idx=0)
    >>> words(an.asarray([[1, 2, 0], [4, 0, 0]])).shape
    (2, 3, 3)

    Source: Bengio et al.: A neural probabilistic language model (2003).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        _freeze: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            msg = (
                f"Embedding: padding_idx must be in [{-num_embeddings}, {num_embeddings}), got {padding_idx}"
            )
            raise ValueError(msg)
        if sparse and scale_grad_by_freq:
            msg = f"{type(self).__name__}: scale_grad_by_freq must be False with sparse=True, as in PyTorch; set one of them"
            raise ValueError(msg)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.sparse = sparse
        if _weight is None:
            weight = creation.empty((num_embeddings, embedding_dim), device=device, dtype=dtype)
            self.weight = Parameter(weight, not _freeze)
            self.reset_parameters()
        else:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                msg = f"Embedding: _weight must have shape {(num_embeddings, embedding_dim)}, got {tuple(_weight.shape)}"
                raise ValueError(msg)
            self.weight = Parameter(_weight, not _freeze, device=device, dtype=dtype)
        if sparse and not _freeze:
            self.weight.edge.table = True

    @classmethod
    def from_pretrained(
        cls,
        embeddings: ArrayLike,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An Embedding with these rows, a matrix; they stay as they are unless ``freeze=False``."""
        if len(embeddings.shape) != 2:
            msg = (
                f"Embedding.from_pretrained: embeddings must be a matrix, got shape {tuple(embeddings.shape)}"
            )
            raise ValueError(msg)
        rows, width = (int(n) for n in embeddings.shape)
        return cls(
            rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight=embeddings, _freeze=freeze
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Redraw the rows."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            unwrap(self.weight)[self.padding_idx, ...] = 0.0

    def forward(self, index: ArrayLike) -> Tensor:
        """weight[index]"""
        return F.embedding(
            index, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )  # fmt: skip

    def extra_repr(self) -> str:
        extra = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            extra += f", max_norm={self.max_norm}"
        if self.norm_type != 2.0:
            extra += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            extra += ", scale_grad_by_freq=True"
        if self.sparse:
            extra += ", sparse=True"
        return f"{self.num_embeddings}, {self.embedding_dim}{extra}"


@equation(F.embedding_bag)
class EmbeddingBag(Embedding):
    """The sum, mean or maximum (`mode`) of the rows of `weight` that each bag of integers names; 0 for an empty bag.

    input (bags, n), or one vector (n,) that `offsets` (bags,) cut into bags (with `include_last_offset` the last offset is its length)
    → (bags, embedding_dim). `per_sample_weights`, of the shape of input, multiply the rows (``mode="sum"`` only). Numbers equal to
    `padding_idx` count for nothing. `max_norm`, `norm_type`, `scale_grad_by_freq` and `sparse` are those of `Embedding`; ``sparse=True``
    does not go together with ``mode="max"``.

    Parameter: `weight` (num_embeddings, embedding_dim), drawn from N(0, 1). ValueError for another `mode`, options that do not go
    together and offsets that do not fit.

    >>> import anynet as an
    >>> an.nn.EmbeddingBag(10, 3)(an.asarray([1, 2, 4, 5]), an.asarray([0, 3])).shape
    (2, 3)

    Source: Joulin et al.: Bag of tricks for efficient text classification (2017).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if mode not in ("sum", "mean", "max"):
            msg = f"EmbeddingBag: mode must be 'sum', 'mean' or 'max', got {mode!r}"
            raise ValueError(msg)
        if sparse and mode == "max":
            msg = "EmbeddingBag: mode must be 'sum' or 'mean' with sparse=True, as in PyTorch, got 'max'"
            raise ValueError(msg)
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(
        self, input: ArrayLike, offsets: ArrayLike | None = None, per_sample_weights: ArrayLike | None = None
    ) -> Tensor:
        """A row for each bag."""
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode, self.sparse,
            per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        parts += [f"max_norm={self.max_norm}"] if self.max_norm is not None else []
        parts += [f"norm_type={self.norm_type}"] if self.norm_type != 2 else []
        parts += ["scale_grad_by_freq=True"] if self.scale_grad_by_freq else []
        parts += [f"mode={self.mode!r}"]
        parts += [f"padding_idx={self.padding_idx}"] if self.padding_idx is not None else []
        return ", ".join(parts)
