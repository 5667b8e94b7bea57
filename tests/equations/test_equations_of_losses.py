"""Losses against their equations, as functions and as layers, for each reduction; their gradients against the equations' lines."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from equations.equation_checks import agrees, normal

X, T = normal(5, 4), normal(5, 4, seed=1)
P, Q = 1 / (1 + np.exp(-X)), 1 / (1 + np.exp(-T))
SHARES = P / P.sum(axis=1, keepdims=True)
SIGNS = np.where(T > 0, 1.0, -1.0)
BITS = (SIGNS + 1) / 2
CLASSES = np.asarray([0, 3, 2, 1, 3])
ROWS = np.asarray([1.0, -1.0, 1.0, -1.0, 1.0])
WEIGHTS = np.asarray([0.5, 2.0, 1.0, 3.0])
TOKENS = np.asarray([[0, 1, 2], [3, 3, 0]])
LISTED = np.asarray([[0, 2, -1, 1], [3, -1, 0, 0], [-1, 0, 1, 2], [0, 1, 2, 3], [1, 0, -1, -1]])
REDUCTIONS = ("mean", "sum", "none")

CASES = [
    ("mse_loss", "MSELoss", (X, T), {}), ("l1_loss", "L1Loss", (X, T), {}), ("huber_loss", "HuberLoss", (X, T), {"delta": 0.7}),
    ("smooth_l1_loss", "SmoothL1Loss", (X, T), {"beta": 0.7}), ("smooth_l1_loss", "SmoothL1Loss", (X, T), {"beta": 0.0}),
    ("poisson_nll_loss", "PoissonNLLLoss", (X, np.abs(T) * 3), {"full": True}),
    ("poisson_nll_loss", "PoissonNLLLoss", (P, np.abs(T)), {"log_input": False, "eps": 1e-3}),
    ("gaussian_nll_loss", "GaussianNLLLoss", (X, T, P), {"full": True}), ("gaussian_nll_loss", "GaussianNLLLoss", (X, T, P), {}),
    ("log_cosh_loss", "LogCoshLoss", (X, T), {}), ("mape_loss", "MAPELoss", (X, T), {}),
    ("msle_loss", "MSLELoss", (np.abs(X), np.abs(T)), {}),
    ("binary_cross_entropy", "BCELoss", (P, Q), {}), ("binary_cross_entropy", "BCELoss", (P, Q), {"weight": WEIGHTS}),
    ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss", (X, Q), {}),
    ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss", (X, Q), {"weight": WEIGHTS, "pos_weight": WEIGHTS[::-1].copy()}),
    ("binary_focal_loss", "BinaryFocalLoss", (X, BITS), {}),
    ("binary_focal_loss", "BinaryFocalLoss", (X, BITS), {"alpha": 0.3, "gamma": 1.5}),
    ("kl_div", "KLDivLoss", (np.log(P), Q), {}), ("kl_div", "KLDivLoss", (np.log(P), np.log(Q)), {"log_target": True}),
    ("hinge_embedding_loss", "HingeEmbeddingLoss", (X, SIGNS), {"margin": 0.5}), ("soft_margin_loss", "SoftMarginLoss", (X, SIGNS), {}),
    ("multilabel_soft_margin_loss", "MultiLabelSoftMarginLoss", (X, BITS), {}),
    ("multilabel_soft_margin_loss", "MultiLabelSoftMarginLoss", (X, BITS), {"weight": WEIGHTS}),
    ("hinge_loss", "HingeLoss", (X, SIGNS), {}), ("hinge_loss", "SquaredHingeLoss", (X, BITS), {"p": 2}),
    ("categorical_hinge_loss", "CategoricalHingeLoss", (X, np.eye(4)[CLASSES]), {}),
    ("multi_margin_loss", "MultiMarginLoss", (X, CLASSES), {"margin": 0.6}),
    ("multi_margin_loss", "MultiMarginLoss", (X, CLASSES), {"p": 2, "weight": WEIGHTS}),
    ("multilabel_margin_loss", "MultiLabelMarginLoss", (X, LISTED), {}),
    ("margin_ranking_loss", "MarginRankingLoss", (X, T, normal(5, 4, seed=2)), {"margin": 0.2}),
    ("cosine_embedding_loss", "CosineEmbeddingLoss", (X, T, ROWS), {"margin": 0.1}),
    ("triplet_margin_loss", "TripletMarginLoss", (X, T, normal(5, 4, seed=2)), {"swap": True, "p": 3.0}),
    ("triplet_margin_with_distance_loss", "TripletMarginWithDistanceLoss", (X, T, normal(5, 4, seed=2)),
     {"distance_function": F.pairwise_distance, "margin": 0.5, "swap": True}),
    ("circle_loss", "CircleLoss", (X, np.asarray([0, 1, 0, 1, 2])), {"gamma": 2.0, "margin": 0.3}),
    ("nll_loss", "NLLLoss", (np.log(P), CLASSES), {}),
    ("nll_loss", "NLLLoss2d", (np.log(P), CLASSES), {"weight": WEIGHTS, "ignore_index": 3}),
    ("cross_entropy", "CrossEntropyLoss", (X, CLASSES), {}),
    ("cross_entropy", "CrossEntropyLoss", (X, CLASSES), {"weight": WEIGHTS, "ignore_index": 3, "label_smoothing": 0.2}),
    ("cross_entropy", "CrossEntropyLoss", (normal(2, 4, 3), TOKENS), {"label_smoothing": 0.1}),
    ("cross_entropy", "CrossEntropyLoss", (X, SHARES), {}),
    ("cross_entropy", "CrossEntropyLoss", (X, SHARES), {"weight": WEIGHTS, "label_smoothing": 0.2}),
    ("cross_entropy", "CrossEntropyLoss", (normal(2, 4, 3), np.abs(normal(2, 4, 3, seed=1))), {"label_smoothing": 0.1}),
    ("token_cross_entropy", "TokenCrossEntropyLoss", (X, CLASSES), {"label_smoothing": 0.1}),
    ("token_cross_entropy", "TokenCrossEntropyLoss", (X, SHARES), {"weight": WEIGHTS, "label_smoothing": 0.1}),
    ("token_cross_entropy", "TokenCrossEntropyLoss", (normal(2, 3, 4), TOKENS), {"weight": WEIGHTS, "ignore_index": 3}),
    ("focal_loss", "FocalLoss", (X, CLASSES), {"alpha": WEIGHTS, "gamma": 1.5, "ignore_index": 2}),
    ("focal_loss", "FocalLoss", (X, CLASSES), {}),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("function", "layer", "inputs", "options"), CASES)
def test_function_and_layer(function, layer, inputs, options, reduction):
    differs = function == "circle_loss"  # its weights α are held constant
    agrees(getattr(F, function), *inputs, **options, reduction=reduction, gradient=not differs)
    options = {
        k: an.asarray(v) if isinstance(v, np.ndarray) else v
        for k, v in options.items()
        if layer != "SquaredHingeLoss"
    }
    agrees(getattr(nn, layer)(**options, reduction=reduction), *inputs, gradient=not differs)


def test_weighted_errors():
    for function in (F.mse_loss, F.l1_loss, F.huber_loss):
        for reduction in REDUCTIONS:
            agrees(function, X, T, weight=np.abs(normal(5, 4, seed=3)), reduction=reduction)


def test_divergence_of_the_definition():
    agrees(F.kl_div, np.log(P), Q, reduction="batchmean")


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "ignore_index": 3}])
def test_linear_cross_entropy(options):
    agrees(F.linear_cross_entropy, normal(5, 3), normal(4, 3), CLASSES, linear_bias=normal(4), **options)
    agrees(nn.LinearCrossEntropyLoss(3, 4, dtype=an.float64, **options), normal(5, 3), CLASSES)


@pytest.mark.parametrize(("function", "layer"), [("dice_loss", "DiceLoss"), ("tversky_loss", "TverskyLoss")])
def test_overlap(function, layer):
    options = {"alpha": 0.3, "beta": 0.8} if layer == "TverskyLoss" else {}
    agrees(getattr(F, function), P, BITS, smooth=0.5, **options)
    agrees(getattr(nn, layer)(smooth=0.5, **options), P, BITS)


def test_distances():
    agrees(F.pairwise_distance, X, T, p=3.0)
    agrees(nn.PairwiseDistance(2.0), X, T)
    agrees(F.cosine_similarity, X, T, dim=0)
    agrees(nn.CosineSimilarity(1), X, T)
    pairs = np.triu_indices(5, 1)
    agrees(F.pdist, X, p=3.0, out=lambda d: _square(d.numpy(), pairs))


def _square(distances, pairs):
    full = np.zeros((5, 5))
    full[pairs] = distances
    return full + full.T


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ctc(reduction):
    scores = normal(6, 2, 4)
    x = scores - np.log(np.sum(np.exp(scores), axis=2, keepdims=True))
    inputs = (x, np.asarray([[1, 1, 3], [2, 3, 0]]), np.asarray([6, 4]), np.asarray([3, 2]))
    agrees(F.ctc_loss, *inputs, reduction=reduction)
    agrees(nn.CTCLoss(reduction=reduction), *inputs)
