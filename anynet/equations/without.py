"""Which public layers, functions and optimizers have no equation, and why."""

from __future__ import annotations

__all__ = ["WITHOUT"]

_HOLDS = "it holds other layers; what it computes is theirs"

WITHOUT: dict[str, str] = {
    "AdaptiveLogSoftmaxWithLoss": "its clusters have matrices of different sizes; each is a log_softmax of linear",
    "ChainedScheduler": "it multiplies the factors of other schedules",
    "Container": _HOLDS,
    "Module": "it is the base of layers",
    "ModuleDict": _HOLDS,
    "ModuleList": _HOLDS,
    "ParameterDict": _HOLDS,
    "ParameterList": _HOLDS,
    "RNNBase": "it is the base of RNN, LSTM and GRU",
    "RNNCellBase": "it is the base of the cells",
    "LRScheduler": "it is the base of schedules",
    "LBFGS": "its direction is a recursion over stored steps, with a line search: Nocedal & Wright (2006), algorithm 7.4",
    "OneCycleLR": "its phases are a table, between the ends of which it takes cosines or lines",
    "orthogonal_": "it is the Q of a QR decomposition of a normal matrix, its columns signed by the diagonal of R",
    "Optimizer": "it is the base of optimizers",
    "ReduceLROnPlateau": "it depends on what is measured",
    "Sequential": _HOLDS,
    "ZeroRedundancyOptimizer": "it divides the state of another optimizer",
    "SequentialLR": "it runs other schedules one after another",
    "TimeDistributed": "it applies another layer to each step",
    "multi_head_attention_forward": "it is MultiheadAttention as a function of its parameters",
}
