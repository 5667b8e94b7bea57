"""The functions of `nn.functional`, and a whole training run."""

from __future__ import annotations

from anynet import nn, optim, random
from anynet.nn import functional as F
from anynet.ops import manipulation, reductions
from anynet.ops.convolution import conv_weight
from anynet.ops.pooling import window_spread
from anynet.ops.resampling import resample_back
from anynet.ops.softmax import logsumexp
from anynet.tensor import Tensor
from anynet.testing.cases import Case, index


def _dropout(x: Tensor) -> Tensor:
    random.manual_seed(11)
    return F.dropout(x, 0.4)


def _train(x: Tensor) -> Tensor:
    """The losses of 20 steps of a small network, times a function of x, so that there is a gradient to compare."""
    random.manual_seed(7)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 3)).to(x.device).to(x.dtype)
    y = index(x, [i % 3 for i in range(12)])
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    constant = x.detach()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(constant), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return manipulation.stack(losses) * reductions.mean(x)


def _by_given(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, variance = (
        Tensor(v, dtype=x.dtype, device=x.device) for v in ([0.1, -0.2, 0.3, 0.0], [1.5, 0.5, 1.0, 2.0])
    )
    return F.batch_norm(x, mean, variance, weight, bias)


CASES: tuple[Case, ...] = (
    Case("linear", F.linear, ((6, 4), (3, 4), (3,))),
    Case("relu", F.relu, ((3, 4),)),
    Case("leaky_relu", F.leaky_relu, ((3, 4),)),
    Case("elu", F.elu, ((3, 4),)),
    Case("gelu", F.gelu, ((3, 4),)),
    Case("gelu, tanh", lambda x: F.gelu(x, approximate="tanh"), ((3, 4),)),
    Case("silu", F.silu, ((3, 4),)),
    Case("sigmoid", F.sigmoid, ((3, 4),)),
    Case("softplus", F.softplus, ((3, 4),)),
    Case("softmax", F.softmax, ((3, 4),)),
    Case("softmax over channels", lambda x: F.softmax(x, 1), ((2, 5, 4, 6),)),
    Case("batch_norm, given statistics", _by_given, ((3, 4, 2, 5), (4,), (4,))),
    Case("log_softmax", F.log_softmax, ((3, 4),)),
    Case("logsumexp", lambda x: logsumexp(x, axis=1), ((3, 4),)),
    Case("embedding", lambda w: F.embedding(index(w, [[1, 3], [1, 0]]), w), ((5, 3),)),
    Case(
        "embedding, by frequency",
        lambda w: F.embedding(index(w, [[1, 3], [0, 4]]), w, scale_grad_by_freq=True) ** 2,
        ((5, 3),),
    ),
    Case("cross_entropy", lambda x: F.cross_entropy(x, index(x, [0, 2, 1]), label_smoothing=0.1), ((3, 4),)),
    Case("token_cross_entropy", lambda x: F.token_cross_entropy(x, index(x, [[0, 2], [1, 1]])), ((2, 2, 4),)),
    Case("cross_entropy, ignored", lambda x: F.cross_entropy(x, index(x, [0, -100, 1])), ((3, 4),)),
    Case("nll_loss", lambda x: F.nll_loss(x, index(x, [0, 2, 1])), ((3, 4),), second_order=False),
    Case("mse_loss", F.mse_loss, ((3, 4), (3, 4))),
    Case("l1_loss", F.l1_loss, ((3, 4), (3, 4))),
    Case("huber_loss", F.huber_loss, ((3, 4), (3, 4))),
    Case("bce", F.binary_cross_entropy, ((3, 4), (3, 4)), 0.1, 0.9),
    Case(
        "bce_with_logits",
        F.binary_cross_entropy_with_logits,
        ((3, 4), (3, 4)),
        0.1,
        0.9,
    ),
    Case("conv1d", lambda x, w: F.conv1d(x, w, padding=1), ((2, 3, 8), (4, 3, 3))),
    Case(
        "conv_weight",
        lambda x, z: conv_weight(
            x, z, shape=(3, 2), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(1, 2), groups=2
        ),
        ((2, 4, 7, 6), (2, 6, 3, 5)),
    ),
    Case(
        "conv2d", lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), ((2, 3, 7, 6), (4, 3, 3, 3), (4,))
    ),
    Case(
        "window_spread",
        lambda g: window_spread(
            g, out=(3, 2), kernel=(2, 3), stride=(2, 2), pads=((1, 0), (0, 1)), shape=(2, 3, 5, 4)
        ),
        ((2, 3, 3, 2),),
        second_order=False,
    ),
    Case("interpolate, nearest", lambda x: F.interpolate(x, (7, 3)), ((2, 3, 4, 5),), second_order=False),
    Case(
        "interpolate, bilinear",
        lambda x: F.interpolate(x, (7, 3), mode="bilinear"),
        ((2, 3, 4, 5),),
        second_order=False,
    ),
    Case(
        "interpolate, transposed",
        lambda x: resample_back(
            x, axes=(("nearest", 4, 9, 4 / 9, False, False), ("cubic", 5, 3, 5 / 3, False, False))
        ),
        ((2, 3, 9, 3),),
        second_order=False,
    ),
    Case("max_pool2d", lambda x: F.max_pool2d(x, 2), ((2, 3, 6, 6),)),
    Case("avg_pool2d", lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), ((2, 3, 7, 7),)),
    Case(
        "max_pool2d, overlapping",
        lambda x: F.max_pool2d(x, 3, stride=1, padding=1, dilation=2),
        ((2, 3, 7, 7),),
    ),
    Case(
        "max_pool2d, indices", lambda x: F.max_pool2d(x, 3, stride=2, return_indices=True)[0], ((2, 3, 7, 7),)
    ),
    Case("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 3), ((2, 3, 7, 7),)),
    Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 3), ((2, 3, 7, 7),)),
    Case("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), ((3, 4), (4,), (4,))),
    Case("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), ((3, 4, 5), (4,), (4,))),
    Case(
        "batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), ((6, 3), (3,), (3,))
    ),
    Case("dropout", lambda x: _dropout(x), ((5, 7),)),
    Case("training, 20 Adam steps", lambda x: _train(x), ((12, 4),), second_order=False, steps=True),
)
