"""Losses: how far an output is from its target.

Shapes that would broadcast are refused: the classic bug of (n, 1) against (n,) gives an error, not a wrong number.
"""

from anynet.nn.functional.losses.classification import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    binary_focal_loss,
    cross_entropy,
    dice_loss,
    focal_loss,
    kl_div,
    linear_cross_entropy,
    nll_loss,
    token_cross_entropy,
    tversky_loss,
)
from anynet.nn.functional.losses.ctc import ctc_loss
from anynet.nn.functional.losses.margins import (
    categorical_hinge_loss,
    hinge_embedding_loss,
    hinge_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
)
from anynet.nn.functional.losses.regression import (
    gaussian_nll_loss,
    huber_loss,
    l1_loss,
    log_cosh_loss,
    mape_loss,
    mse_loss,
    msle_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
from anynet.nn.functional.losses.similarity import (
    circle_loss,
    cosine_embedding_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "binary_focal_loss", "categorical_hinge_loss",
    "circle_loss", "cosine_embedding_loss", "cross_entropy", "ctc_loss", "dice_loss", "focal_loss",
    "gaussian_nll_loss", "hinge_embedding_loss", "hinge_loss", "huber_loss", "kl_div", "l1_loss",
    "linear_cross_entropy", "log_cosh_loss", "mape_loss", "margin_ranking_loss", "mse_loss", "msle_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss",
    "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss",
    "token_cross_entropy", "tversky_loss",
]  # fmt: skip
