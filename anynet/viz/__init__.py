"""Figures of networks and of their training: plots with matplotlib (extra ``plot``), and graphs as SVG.

Each function returns matplotlib's axes or figure, which can be changed, and shows nothing by itself; what is computed can be had without
drawing (`Landscape`, `race`, `attention_weights`). Models stay as they are: weights, modes, gradients and random state.
"""

from anynet.viz.activations import activations
from anynet.viz.boundary import decision_boundary
from anynet.viz.confusion_matrix import confusion
from anynet.viz.curves import curves
from anynet.viz.graph import Drawing, graph
from anynet.viz.landscape import Landscape, landscape
from anynet.viz.optimizers import (
    PROBLEMS,
    Problem,
    Race,
    beale,
    booth,
    himmelblau,
    optimizers,
    race,
    rastrigin,
    ravine,
    rosenbrock,
    saddle,
)
from anynet.viz.weights import attention, attention_weights, filters, responses, weights

__all__ = [
    "PROBLEMS", "Drawing", "Landscape", "Problem", "Race", "activations", "attention", "attention_weights", "beale", "booth", "confusion",
    "curves", "decision_boundary", "filters", "graph", "himmelblau", "landscape", "optimizers", "race", "rastrigin", "ravine", "responses",
    "rosenbrock", "saddle", "weights",
]  # fmt: skip
