"""Every class of `nn` as a function of its inputs and parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from anynet import nn, random
from anynet.nn import functional as F
from anynet.ops.manipulation import concat, reshape
from anynet.tensor import Tensor
from anynet.testing.cases import Case, index, layer


def _flat(values: Any) -> Any:
    """Tensors, in nested tuples, as one."""
    if isinstance(values, Tensor):
        return reshape(values, (-1,))
    return concat([_flat(v) for v in values])


def _all(net: nn.Module, *inputs: Tensor) -> Any:
    return _flat(net(*inputs))


def _classes(net: nn.Module, x: Tensor) -> Any:
    return net(x, index(x, [0, 2, 1]))


def _lazy(name: str, make: Any, shape: tuple[int, ...]) -> Case:
    """A lazy layer at its first call, as a function of its input."""

    def function(x: Tensor) -> Any:
        random.manual_seed(11)
        return make(dtype=x.dtype)(x) ** 2

    return Case(name, function, (shape,))


def _pairs(net: nn.Module, x: Tensor) -> Any:
    return net(x, index(x, [0, 1, 0, 1, 2]))


def _tree(net: nn.Module, x: Tensor, y: Tensor) -> Any:
    """A root over a leaf and a node with one leaf."""
    leaf = net(x)
    return _flat(net(y, [leaf, net(y, [leaf])]))


def _graph(net: nn.Module, x: Tensor) -> Any:
    """A square with a tail, one edge of it a loop."""
    return net(x, index(x, [[0, 1, 2, 3, 3, 4, 4], [1, 2, 3, 0, 4, 3, 4]]))


def _tagged(net: nn.Module, x: Tensor) -> Any:
    tags = index(x, [[0, 2], [1, 1], [2, 0], [0, 0]])
    mask = index(x, [[True, True], [True, True], [True, False], [True, False]])
    return net(x, tags, mask)


def _drawn(net: nn.Module, x: Tensor) -> Any:
    return net(x, index(x, [0, 2, 1]), samples=index(x, [[1, 3], [0, 0], [3, 2]]))


def _signed(net: nn.Module, *inputs: Tensor) -> Any:
    """A loss whose last argument is ±1."""
    some = inputs[0]
    return net(*inputs, Tensor([1.0, -1.0, -1.0, 1.0], dtype=some.dtype, device=some.device))


def _hot(net: nn.Module, x: Tensor) -> Any:
    """A loss whose target is one-hot."""
    return net(x, F.one_hot(index(x, [0, 2, 1]), x.shape[-1]))


def _unpooled(net: nn.Module, x: Tensor) -> Any:
    """The first place of each window of 2."""
    n = x.ndim - 2
    places = [0]
    for axis in range(n):
        side = 4 ** (n - 1 - axis)
        places = [p + step for p in places for step in (0, 2 * side)]
    return net(x, reshape(index(x, [places] * 2), x.shape))


class _Twins:
    """Two processes with the same batch."""

    def allreduce(self, value: Any) -> Any:
        return value + value


CASES: tuple[Case, ...] = (
    layer("Linear", lambda: nn.Linear(4, 3), (5, 4)),
    layer("Identity", nn.Identity, (3, 4), second_order=False),
    layer("Flatten", nn.Flatten, (2, 3, 4), second_order=False),
    layer("Unflatten", lambda: nn.Unflatten(1, (2, 3)), (4, 6), second_order=False),
    layer("weight_norm", lambda: nn.utils.weight_norm(nn.Linear(4, 3)), (5, 4)),
    layer("spectral_norm", lambda: nn.utils.spectral_norm(nn.Linear(4, 3)).eval(), (5, 4)),
    layer("Sequential", lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), (5, 4)),
    layer("Embedding", lambda: nn.Embedding(5, 3, padding_idx=1), run=lambda net: net(index(net.weight, [[0, 3], [0, 4]])),
          second_order=False),
    layer("Dropout", lambda: nn.Dropout(0.4), (5, 7), second_order=False),
    *(layer(make.__name__, make, (3, 4)) for make in (
        nn.ELU, nn.GELU, nn.LogSoftmax, nn.SiLU, nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Tanh,
    )),
    *(layer(make.__name__, make, (3, 4)) for make in (
        nn.CELU, nn.GLU, nn.LogSigmoid, nn.Mish, nn.SELU, nn.Softmin, nn.Softsign, nn.Tanhshrink,
    )),
    *(layer(make.__name__, make, (3, 4), second_order=False) for make in (
        nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU,
        nn.Softshrink,
    )),
    layer("Softmax2d", nn.Softmax2d, (2, 3, 2, 2)),
    layer("Threshold", lambda: nn.Threshold(0.1, 20.0), (3, 4), second_order=False),
    layer("Conv1d", lambda: nn.Conv1d(4, 6, 3, padding="same", dilation=2, groups=2), (2, 4, 7)),
    layer("Conv2d", lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=1), (2, 2, 6, 5)),
    layer("Conv2d, reflected", lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 4, 5)),
    layer("Conv3d", lambda: nn.Conv3d(2, 2, 2, stride=2, bias=False), (1, 2, 4, 4, 4)),
    layer("MaxPool1d", lambda: nn.MaxPool1d(2), (2, 3, 6), second_order=False),
    layer("MaxPool2d", lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 6, 6), second_order=False),
    layer("AvgPool1d", lambda: nn.AvgPool1d(2), (2, 3, 6), second_order=False),
    layer("AvgPool2d", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 6, 6), second_order=False),
    layer("AdaptiveAvgPool1d", lambda: nn.AdaptiveAvgPool1d(3), (2, 3, 7), second_order=False),
    layer("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d((3, 2)), (2, 3, 7, 5), second_order=False),
    layer("AdaptiveMaxPool1d", lambda: nn.AdaptiveMaxPool1d(3), (2, 3, 7), second_order=False),
    layer("AdaptiveMaxPool2d", lambda: nn.AdaptiveMaxPool2d((3, 2)), (2, 3, 7, 5), second_order=False),
    layer("BatchNorm1d", lambda: nn.BatchNorm1d(3), (6, 3)),
    layer("BatchNorm1d, evaluating", lambda: nn.BatchNorm1d(3).eval(), (6, 3, 4)),
    layer("BatchNorm2d", lambda: nn.BatchNorm2d(3), (4, 3, 2, 3)),
    layer("BatchNorm3d", lambda: nn.BatchNorm3d(2), (2, 2, 2, 3, 2)),
    layer("SyncBatchNorm", lambda: nn.SyncBatchNorm(3, process_group=_Twins()), (2, 3, 4)),
    layer("LayerNorm", lambda: nn.LayerNorm((3, 4)), (2, 3, 4)),
    layer("GroupNorm", lambda: nn.GroupNorm(2, 4), (3, 4, 5)),
    layer("InstanceNorm1d", lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True), (2, 3, 5)),
    layer("InstanceNorm2d", lambda: nn.InstanceNorm2d(2), (2, 2, 3, 4)),
    layer("InstanceNorm3d", lambda: nn.InstanceNorm3d(2), (2, 2, 2, 3, 2)),
    layer("RMSNorm", lambda: nn.RMSNorm((3, 4)), (2, 3, 4)),
    layer("LocalResponseNorm", lambda: nn.LocalResponseNorm(3, alpha=0.5), (2, 4, 3)),
    layer("CrossMapLRN2d", lambda: nn.CrossMapLRN2d(4, alpha=0.5), (2, 4, 2, 3)),
    layer("ConvTranspose1d", lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (2, 4, 5)),
    layer("ConvTranspose2d", lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 2, 4, 3)),
    layer("ConvTranspose3d", lambda: nn.ConvTranspose3d(2, 2, 2, bias=False), (1, 2, 2, 3, 2)),
    layer("MaxPool3d", lambda: nn.MaxPool3d(2), (1, 2, 4, 4, 4), second_order=False),
    layer("AvgPool3d", lambda: nn.AvgPool3d(2), (1, 2, 4, 4, 4), second_order=False),
    layer("AdaptiveAvgPool3d", lambda: nn.AdaptiveAvgPool3d(2), (1, 2, 3, 4, 5), second_order=False),
    layer("AdaptiveMaxPool3d", lambda: nn.AdaptiveMaxPool3d(2), (1, 2, 3, 4, 5), second_order=False),
    layer("LPPool1d", lambda: nn.LPPool1d(2, 3), (2, 3, 6)),
    layer("LPPool2d", lambda: nn.LPPool2d(3, 2), (2, 2, 4, 4), low=0.2),
    layer("LPPool3d", lambda: nn.LPPool3d(2, 2), (1, 2, 4, 2, 2)),
    *(layer(f"{kind}Pad{n}d", partial(getattr(nn, f"{kind}Pad{n}d"), 1, *extra), (2, 2, *(3,) * n), second_order=False)
      for kind, extra in (("Circular", ()), ("Constant", (2.5,)), ("Reflection", ()), ("Replication", ()), ("Zero", ()))
      for n in (1, 2, 3)),
    *(layer(f"Dropout{n}d", partial(getattr(nn, f"Dropout{n}d"), 0.4), (3, 4, *(2,) * n), second_order=False)
      for n in (1, 2, 3)),
    layer("AlphaDropout", lambda: nn.AlphaDropout(0.3), (5, 7), second_order=False),
    layer("FeatureAlphaDropout", lambda: nn.FeatureAlphaDropout(0.3), (5, 7, 2), second_order=False),
    layer("PixelShuffle", lambda: nn.PixelShuffle(2), (2, 4, 2, 3), second_order=False),
    layer("PixelUnshuffle", lambda: nn.PixelUnshuffle(2), (2, 1, 4, 6), second_order=False),
    layer("ChannelShuffle", lambda: nn.ChannelShuffle(2), (2, 4, 3), second_order=False),
    layer("EmbeddingBag", lambda: nn.EmbeddingBag(5, 3, mode="max"), run=lambda net: net(index(net.weight, [[1, 3], [0, 4]])),
          second_order=False),
    *(layer(f"MaxUnpool{n}d", partial(getattr(nn, f"MaxUnpool{n}d"), 2), (1, 2, *(2,) * n), run=_unpooled, second_order=False)
      for n in (1, 2, 3)),
    layer("Upsample", lambda: nn.Upsample((5, 3), mode="bicubic"), (1, 2, 4, 4), second_order=False),
    layer("UpsamplingNearest2d", lambda: nn.UpsamplingNearest2d(scale_factor=1.5), (1, 2, 4, 4), second_order=False),
    layer("UpsamplingBilinear2d", lambda: nn.UpsamplingBilinear2d((3, 7)), (1, 2, 4, 4), second_order=False),
    layer("Unfold", lambda: nn.Unfold((2, 3), padding=1, stride=2), (2, 2, 4, 5), second_order=False),
    layer("Fold", lambda: nn.Fold((4, 5), 2, padding=1), (1, 8, 30), second_order=False),
    layer("Bilinear", lambda: nn.Bilinear(3, 4, 2), (5, 3), (5, 4)),
    layer("RNN", lambda: nn.RNN(3, 4, num_layers=2, bidirectional=True), (4, 2, 3), run=_all, low=-0.8, high=0.8),
    layer("LSTM", lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2), (4, 2, 3), run=_all, low=-0.8, high=0.8),
    layer("GRU", lambda: nn.GRU(3, 4, bidirectional=True, batch_first=True), (2, 4, 3), run=_all, low=-0.8, high=0.8),
    layer("RNNCell", lambda: nn.RNNCell(3, 4), (2, 3), (2, 4)),
    layer("LSTMCell", lambda: nn.LSTMCell(3, 4), (2, 3), run=_all),
    layer("GRUCell", lambda: nn.GRUCell(3, 4), (2, 3), (2, 4)),
    layer("MultiheadAttention", lambda: nn.MultiheadAttention(4, 2), (3, 2, 4), (5, 2, 4), (5, 2, 4), run=_all),
    layer("MultiheadAttention, no weights", lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5), (3, 2, 4), (5, 2, 3), (5, 2, 5),
          run=lambda net, q, k, v: net(q, k, v, need_weights=False)[0]),
    layer("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, norm_first=True), (3, 2, 4)),
    layer("TransformerDecoderLayer", lambda: nn.TransformerDecoderLayer(4, 2, 6, dropout=0.0, activation="gelu"), (3, 2, 4),
          (5, 2, 4)),
    layer("TransformerEncoder", lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.0), 1), (3, 2, 4)),
    layer("TransformerDecoder", lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, 0.0), 1), (3, 2, 4), (2, 2, 4)),
    layer("Transformer", lambda: nn.Transformer(4, 2, 1, 1, 5, 0.0), (3, 2, 4), (2, 2, 4)),
    layer("MSELoss", nn.MSELoss, (3, 4), (3, 4)),
    layer("L1Loss", nn.L1Loss, (3, 4), (3, 4), second_order=False),
    layer("HuberLoss", lambda: nn.HuberLoss(delta=0.7), (3, 4), (3, 4)),
    layer("SmoothL1Loss", lambda: nn.SmoothL1Loss(beta=0.7), (3, 4), (3, 4)),
    layer("BCELoss", nn.BCELoss, (3, 4), (3, 4), low=0.1, high=0.9),
    layer("BCEWithLogitsLoss", nn.BCEWithLogitsLoss, (3, 4), (3, 4), low=0.1, high=0.9),
    layer("CrossEntropyLoss", lambda: nn.CrossEntropyLoss(label_smoothing=0.1), (3, 4), run=_classes),
    layer("TokenCrossEntropyLoss", nn.TokenCrossEntropyLoss, (3, 4), run=_classes),
    layer("NLLLoss", nn.NLLLoss, (3, 4), run=_classes, second_order=False),
    layer("NLLLoss2d", nn.NLLLoss2d, (3, 4), run=_classes, second_order=False),
    layer("CTCLoss", nn.CTCLoss, (5, 2, 3), run=lambda net, x: net(x - 2.5, index(x, [[1, 2], [2, 0]]), [5, 4], [2, 1])),
    layer("KLDivLoss", nn.KLDivLoss, (3, 4), (3, 4), low=0.1, high=0.9),
    layer("PoissonNLLLoss", lambda: nn.PoissonNLLLoss(full=True), (3, 4), (3, 4), low=0.1, high=3.0),
    layer("GaussianNLLLoss", lambda: nn.GaussianNLLLoss(full=True), (3, 4), (3, 4), (3, 1), low=0.2, high=2.0),
    layer("HingeEmbeddingLoss", nn.HingeEmbeddingLoss, (4,), run=_signed, second_order=False),
    layer("SoftMarginLoss", nn.SoftMarginLoss, (4,), run=_signed),
    layer("MultiLabelMarginLoss", nn.MultiLabelMarginLoss, (2, 3),
          run=lambda net, x: net(x, index(x, [[2, -1, 0], [1, 0, -1]])), second_order=False),
    layer("MultiLabelSoftMarginLoss", nn.MultiLabelSoftMarginLoss, (3, 4), (3, 4), low=0.1, high=0.9),
    layer("MultiMarginLoss", lambda: nn.MultiMarginLoss(p=2), (3, 4), run=_classes),
    layer("MarginRankingLoss", nn.MarginRankingLoss, (4,), (4,), run=_signed, second_order=False),
    layer("CosineEmbeddingLoss", nn.CosineEmbeddingLoss, (4, 3), (4, 3), run=_signed),
    layer("TripletMarginLoss", lambda: nn.TripletMarginLoss(swap=True), (4, 3), (4, 3), (4, 3)),
    layer("TripletMarginWithDistanceLoss", nn.TripletMarginWithDistanceLoss, (4, 3), (4, 3), (4, 3)),
    layer("CosineSimilarity", nn.CosineSimilarity, (4, 3), (4, 3)),
    layer("PairwiseDistance", lambda: nn.PairwiseDistance(3.0), (4, 3), (4, 3)),
    layer("HingeLoss", nn.HingeLoss, (4,), run=_signed, second_order=False),
    layer("SquaredHingeLoss", nn.SquaredHingeLoss, (4,), run=_signed),
    layer("CategoricalHingeLoss", nn.CategoricalHingeLoss, (3, 4), run=_hot, second_order=False),
    layer("MAPELoss", nn.MAPELoss, (3, 4), (3, 4), low=0.2),
    layer("MSLELoss", nn.MSLELoss, (3, 4), (3, 4), low=0.1),
    layer("CReLU", nn.CReLU, (2, 3, 4), second_order=False),
    layer("SquarePlus", nn.SquarePlus, (3, 4)),
    layer("Sparsemax", nn.Sparsemax, (3, 4), second_order=False),
    layer("GaussianNoise", lambda: nn.GaussianNoise(0.3), (3, 4), second_order=False),
    layer("GaussianDropout", lambda: nn.GaussianDropout(0.3), (3, 4), second_order=False),
    layer("UnitNorm", nn.UnitNorm, (3, 4)),
    *(layer(f"Global{kind}Pool{n}d", getattr(nn, f"Global{kind}Pool{n}d"), (2, 3, *(3,) * n), second_order=False)
      for kind in ("Avg", "Max") for n in (1, 2, 3)),
    layer("TimeDistributed", lambda: nn.TimeDistributed(nn.Linear(3, 2)), (2, 4, 3)),
    layer("DiceLoss", lambda: nn.DiceLoss(dim=1), (3, 4), (3, 4), low=0.1, high=0.9),
    layer("TverskyLoss", lambda: nn.TverskyLoss(0.3, 0.7), (3, 4), (3, 4), low=0.1, high=0.9),
    layer("BinaryFocalLoss", lambda: nn.BinaryFocalLoss(0.25), (3, 4), (3, 4), low=0.1, high=0.9),
    layer("FocalLoss", lambda: nn.FocalLoss([0.2, 0.3, 0.1, 0.4], gamma=1.5), (3, 4), run=_classes),
    layer("LogCoshLoss", nn.LogCoshLoss, (3, 4), (3, 4)),
    replace(  # its weights are held constant, so that its gradient is not that of its value
        layer("CircleLoss", lambda: nn.CircleLoss(gamma=2.0), (5, 4), run=_pairs, second_order=False), steps=True
    ),
    layer("LinearCrossEntropyLoss", lambda: nn.LinearCrossEntropyLoss(4, 5, bias=True), (3, 4), run=_classes),
    layer("RoPE", lambda: nn.RoPE(4), (2, 5, 6), second_order=False),
    layer("RoPE, traditional", lambda: nn.RoPE(6, traditional=True, scale=0.5), (2, 5, 6), run=lambda net, x: net(x, offset=3),
          second_order=False),
    layer("ALiBi", nn.ALiBi, (2, 3, 4, 5), second_order=False),
    layer("SinusoidalPositionalEncoding", lambda: nn.SinusoidalPositionalEncoding(6), (2, 3)),
    layer("GroupQueryAttention", lambda: nn.GroupQueryAttention(8, 4, 2, rope=nn.RoPE(2)), (2, 3, 8), (2, 3, 8), (2, 3, 8),
          run=lambda net, *x: net(*x, is_causal=True)),
    layer("Maxout", lambda: nn.Maxout(3, 2, 3), (4, 3)),
    layer("Highway", lambda: nn.Highway(3, activation=F.tanh), (4, 3)),
    layer("SeparableConv1d", lambda: nn.SeparableConv1d(2, 3, 3, depth_multiplier=2), (2, 2, 6)),
    layer("SeparableConv2d", lambda: nn.SeparableConv2d(2, 3, 3, padding="same"), (2, 2, 4, 5)),
    layer("SeparableConv3d", lambda: nn.SeparableConv3d(2, 2, 2), (1, 2, 3, 3, 3)),
    layer("ConvLSTM1d", lambda: nn.ConvLSTM1d(2, 3, 3), (3, 2, 2, 5), run=_all),
    layer("ConvLSTM2d", lambda: nn.ConvLSTM2d(1, 2, 3, stride=2, padding=1), (2, 1, 1, 4, 4), run=_all),
    layer("ConvLSTM3d", lambda: nn.ConvLSTM3d(1, 1, 3), (2, 1, 1, 3, 3, 3), run=_all),
    layer("ChildSumTreeLSTM", lambda: nn.ChildSumTreeLSTM(3, 2), (2, 3), (2, 3), run=_tree),
    layer("NaryTreeLSTM", lambda: nn.NaryTreeLSTM(3, 2, 3), (2, 3), (2, 3), run=_tree),
    layer("GCNConv", lambda: nn.GCNConv(3, 2), (5, 3), run=_graph),
    layer("GATConv", lambda: nn.GATConv(3, 2, heads=2), (5, 3), run=_graph),
    layer("CRF", lambda: nn.CRF(3), (4, 2, 3), run=_tagged),
    layer("NegativeSampling", lambda: nn.NegativeSampling(4, [3, 2, 1, 5], 2), (3, 4), run=_drawn),
    layer("NCELoss", lambda: nn.NCELoss(4, [3, 2, 1, 5], 2), (3, 4), run=_drawn),
    _lazy("LazyLinear", lambda **o: nn.LazyLinear(3, **o), (2, 4)),
    _lazy("LazyConv1d", lambda **o: nn.LazyConv1d(3, 2, **o), (2, 2, 5)),
    _lazy("LazyConv2d", lambda **o: nn.LazyConv2d(3, 2, **o), (2, 2, 4, 3)),
    _lazy("LazyConv3d", lambda **o: nn.LazyConv3d(2, 2, **o), (1, 2, 3, 3, 2)),
    _lazy("LazyConvTranspose1d", lambda **o: nn.LazyConvTranspose1d(3, 2, **o), (2, 2, 4)),
    _lazy("LazyConvTranspose2d", lambda **o: nn.LazyConvTranspose2d(3, 2, **o), (2, 2, 3, 3)),
    _lazy("LazyConvTranspose3d", lambda **o: nn.LazyConvTranspose3d(2, 2, **o), (1, 2, 2, 2, 2)),
    _lazy("LazyBatchNorm1d", lambda **o: nn.LazyBatchNorm1d(**o), (5, 3)),
    _lazy("LazyBatchNorm2d", lambda **o: nn.LazyBatchNorm2d(**o), (3, 2, 3, 2)),
    _lazy("LazyBatchNorm3d", lambda **o: nn.LazyBatchNorm3d(**o), (3, 2, 2, 2, 2)),
    _lazy("LazyInstanceNorm1d", lambda **o: nn.LazyInstanceNorm1d(**o), (2, 3, 5)),
    _lazy("LazyInstanceNorm2d", lambda **o: nn.LazyInstanceNorm2d(**o), (2, 2, 3, 3)),
    _lazy("LazyInstanceNorm3d", lambda **o: nn.LazyInstanceNorm3d(**o), (2, 2, 2, 2, 2)),
    layer("FractionalMaxPool2d", lambda: nn.FractionalMaxPool2d(2, output_size=3), (2, 2, 5, 6), second_order=False),
    layer("FractionalMaxPool3d", lambda: nn.FractionalMaxPool3d(2, output_ratio=0.6), (1, 2, 4, 4, 5), second_order=False),
    Case("grid_sample", lambda x, g: F.grid_sample(x, g), ((2, 3, 4, 5), (2, 3, 3, 2)), -1.2, 1.2),
    Case("grid_sample, 3-d", lambda x, g: F.grid_sample(x, g, padding_mode="border", align_corners=True),
         ((1, 2, 3, 4, 3), (1, 2, 2, 2, 3)), -1.2, 1.2),
    Case("grid_sample, bicubic", lambda x, g: F.grid_sample(x, g, "bicubic", "reflection"), ((2, 2, 4, 5), (2, 2, 3, 2)),
         -1.4, 1.4),
    Case("grid_sample, nearest", lambda x, g: F.grid_sample(x, g.detach(), "nearest"), ((2, 2, 4, 5), (2, 2, 3, 2)), -1.2, 1.2,
         second_order=False),
    Case("affine_grid", lambda t: F.affine_grid(t, (2, 1, 3, 4)), ((2, 2, 3),), second_order=False),
    layer("AdaptiveLogSoftmaxWithLoss", lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 6, [2, 4], 2.0), (3, 8),
          run=lambda net, x: net(x, index(x, [0, 5, 3])).loss),
)  # fmt: skip
