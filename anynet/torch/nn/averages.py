"""``size_average`` and ``reduce``, the two arguments that losses of PyTorch had before ``reduction``, and still take."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CLASSES", "FUNCTIONS", "translation"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]
FUNCTIONS = frozenset(
    ("binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy", "hinge_embedding_loss", "kl_div",
     "l1_loss", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss",
     "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss")
)  # fmt: skip
CLASSES = frozenset(
    ("BCELoss", "BCEWithLogitsLoss", "CosineEmbeddingLoss", "CrossEntropyLoss", "HingeEmbeddingLoss", "KLDivLoss", "L1Loss", "MSELoss",
     "MarginRankingLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PoissonNLLLoss",
     "SmoothL1Loss", "SoftMarginLoss", "TripletMarginLoss", "_Loss", "_WeightedLoss")
)  # fmt: skip


def _order(names: list[str]) -> list[str]:
    """The names of arguments as PyTorch has them: `reduce` before `reduction`, `size_average` before that and the option between."""
    at = names.index("reduction")
    between = at - 1 if names[at - 1] == "ignore_index" or "log_input" in names else at
    return [*names[:between], "size_average", *names[between:at], "reduce", *names[at:]]


def translation(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], Mapping[str, Any]], _Call]:
    """What makes arguments in PyTorch's order, with the two, into those of a function (or the ``__init__`` of a class) with `reduction`."""
    order = _order([n for n in inspect.signature(function).parameters if n != "self"])
    place = order.index("size_average")

    def translated(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Call:
        if len(args) <= place and "size_average" not in kwargs and "reduce" not in kwargs:
            return args, dict(kwargs)
        if len(args) > len(order):
            msg = f"{function.__name__} takes at most {len(order)} arguments, got {len(args)}"
            raise TypeError(msg)
        given = {**dict(zip(order[place:], args[place:], strict=False)), **kwargs}
        average, each = given.pop("size_average", None), given.pop("reduce", None)
        if average is not None or each is not None:
            whole = "mean" if average is None or average else "sum"
            given["reduction"] = whole if each is None or each else "none"
            what = f"size_average and reduce args will be deprecated, please use reduction='{given['reduction']}' instead."
            warnings.warn(what, UserWarning, stacklevel=3)
        return args[:place], given

    return translated
