"""Norms, transposed convolutions, pooling, padding, dropout, shuffles and Bilinear: as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

save_file = pytest.importorskip("safetensors.torch").save_file
nn, T, F, TF = an.nn, torch.nn, an.nn.functional, torch.nn.functional
rng = np.random.default_rng(0)


def x(*shape):
    return rng.normal(size=shape)


# name, arguments, keywords, inputs
CASES = [
    *(("InstanceNorm1d", (3,), k, [x(4, 3, 5)]) for k in (
        {}, {"affine": True}, {"track_running_stats": True}, {"affine": True, "track_running_stats": True, "momentum": 0.3},
        {"eps": 1e-2},
    )),
    ("InstanceNorm1d", (3,), {}, [x(3, 5)]),
    ("InstanceNorm2d", (3,), {"affine": True}, [x(2, 3, 4, 5)]),
    ("InstanceNorm3d", (2,), {"affine": True}, [x(2, 2, 2, 3, 4)]),
    ("RMSNorm", (5,), {}, [x(2, 3, 5)]),
    ("RMSNorm", ((3, 5),), {"eps": 1e-2}, [x(2, 3, 5)]),
    ("RMSNorm", (5,), {"elementwise_affine": False}, [x(5)]),
    ("LocalResponseNorm", (2,), {}, [x(2, 5, 4, 3)]),
    ("LocalResponseNorm", (3,), {"alpha": 0.5, "beta": 0.3, "k": 2.0}, [x(2, 5, 4)]),
    ("ConvTranspose1d", (4, 6, 3), {}, [x(2, 4, 7)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 3, "output_padding": 2, "groups": 2, "bias": False}, [x(4, 7)]),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"stride": 2, "padding": 1, "dilation": 2}, [x(2, 4, 5, 6)]),
    ("ConvTranspose2d", (4, 2, 4), {"stride": 2, "padding": 1}, [x(2, 4, 5, 6)]),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2, "output_padding": 1}, [x(1, 2, 3, 2, 3)]),
    ("MaxPool3d", (2,), {"padding": 1}, [x(2, 2, 4, 5, 6)]),
    ("AvgPool3d", (2,), {"divisor_override": 3}, [x(2, 2, 4, 5, 6)]),
    ("AvgPool3d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, [x(2, 2, 4, 5, 6)]),
    ("AdaptiveAvgPool3d", ((2, None, 3),), {}, [x(2, 2, 4, 5, 6)]),
    ("AdaptiveMaxPool3d", (2,), {}, [x(2, 2, 4, 5, 6)]),
    ("LPPool1d", (2, 3), {}, [x(2, 3, 8)]),
    ("LPPool2d", (3.0, (2, 3)), {"stride": 2, "ceil_mode": True}, [np.abs(x(2, 3, 6, 7))]),
    ("LPPool2d", (1.5, 2), {}, [np.abs(x(2, 3, 6, 7))]),
    ("LPPool3d", (2, 2), {}, [x(1, 2, 4, 4, 4)]),
    *((f"{kind}Pad{n}d", (2, *extra), {}, [x(2, 3, *(4, 5, 6)[:n])]) for n in (1, 2, 3) for kind, extra in (
        ("Circular", ()), ("Constant", (3.5,)), ("Reflection", ()), ("Replication", ()), ("Zero", ()),
    )),
    ("ReflectionPad2d", ((1, 0, 2, 3),), {}, [x(3, 4, 5)]),
    ("ConstantPad1d", ((0, 3), -1.0), {}, [x(3, 4)]),
    ("PixelShuffle", (3,), {}, [x(2, 18, 2, 4)]),
    ("PixelUnshuffle", (2,), {}, [x(2, 3, 4, 6)]),
    ("ChannelShuffle", (3,), {}, [x(2, 6, 4, 5)]),
    ("Bilinear", (3, 4, 5), {}, [x(2, 6, 3), x(2, 6, 4)]),
    ("Bilinear", (3, 4, 5), {"bias": False}, [x(3), x(4)]),
]  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
@pytest.mark.parametrize(("name", "args", "options", "inputs"), CASES, ids=lambda v: str(v)[:40])
def test_as_pytorch(name, args, options, inputs, training, tmp_path):
    theirs = getattr(T, name)(*args, **options).double().train(training)
    ours = getattr(nn, name)(*args, **options).double().train(training)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    if list(theirs.state_dict()):
        for p in theirs.parameters():
            p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype)
        save_file(theirs.state_dict(), tmp_path / "state.safetensors")
        ours.load_state_dict(an.load(tmp_path / "state.safetensors"))
    for _ in range(2):  # running statistics move
        a = [an.asarray(v, requires_grad=True) for v in inputs]
        t = [torch.tensor(v, requires_grad=True) for v in inputs]
        y, u = ours(*a), theirs(*t)
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-9, atol=1e-10)
    ours.zero_grad()
    theirs.zero_grad()
    an.sum(y * y * y).backward()
    (u * u * u).sum().backward()
    for mine, other in zip((*a, *ours.parameters()), (*t, *theirs.parameters()), strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-8, atol=1e-9)
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "args", "options", "inputs"), CASES, ids=lambda v: str(v)[:40])
def test_second_order_and_dtype(name, args, options, inputs):
    layer = getattr(nn, name)(*args, **options)
    assert layer(*(an.asarray(v, dtype=an.float32) for v in inputs)).dtype is an.float32
    layer = layer.double()
    small = [an.asarray(v, requires_grad=True) for v in inputs]
    if name.startswith(("MaxPool", "AdaptiveMaxPool")):
        return  # piecewise linear: tested with their primitive
    assert an.gradcheck(layer, small)
    assert an.gradgradcheck(lambda *v: layer(*v) ** 2, small)


def test_output_size_of_transposed_convolutions():
    ours, theirs = (
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1),
        T.ConvTranspose2d(2, 3, 3, stride=2, padding=1),
    )
    a = an.ones((1, 2, 5, 5))
    for size in ((9, 10), (10, 10)):
        assert ours(a, size).shape == tuple(theirs(torch.ones(1, 2, 5, 5), size).shape)
    with pytest.raises(
        ValueError, match=r"output_size must be between \(9, 9\) and \(10, 10\), got \(11, 9\)"
    ):
        ours(a, (11, 9))


def test_normalize():
    for p, dim in ((2.0, 1), (1.0, 0), (3.0, -1)):
        v = x(3, 4, 5)
        got = F.normalize(an.asarray(v), p, dim)
        np.testing.assert_allclose(got.numpy(), TF.normalize(torch.tensor(v), p, dim).numpy(), rtol=1e-12)


@pytest.mark.parametrize(("name", "axes"), [("Dropout1d", 1), ("Dropout2d", 2), ("Dropout3d", 3)])
def test_dropout_of_channels(name, axes, xp_device):
    layer = getattr(nn, name)(0.4)
    a = an.ones((30, 20, *(3,) * axes), device=xp_device)
    an.random.manual_seed(1)
    y = layer(a).numpy().reshape(600, -1)
    assert ((y == y[:, :1]).all(axis=1)).all()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.6)}
    assert 0.3 < (y[:, 0] == 0).mean() < 0.5
    an.random.manual_seed(1)
    assert (layer(an.ones((30, 20, *(3,) * axes))).numpy().reshape(600, -1) == y).all()
    assert layer(a[0, ...]).shape == a.shape[1:]
    assert layer.eval()(a) is a
    with pytest.raises(ValueError, match=f"{axes + 2} axes"):
        getattr(nn, name)()(an.ones(3))
    assert repr(layer) == repr(getattr(T, name)(0.4))


def test_alpha_dropout_keeps_mean_and_variance():
    an.random.manual_seed(2)
    v = an.asarray(x(400, 500))
    for layer in (nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.2)):
        y = layer(v).numpy()
        assert abs(y.mean()) < 0.02
        assert abs(y.std() - 1) < 0.02
        assert layer.eval()(v) is v
        assert repr(layer) == repr(getattr(T, type(layer).__name__)(0.2))
    y = nn.FeatureAlphaDropout(0.5)(an.zeros((50, 4, 6))).numpy()
    assert (y == y[:, :, :1]).all()
    assert len(np.unique(y)) == 2
    assert (F.alpha_dropout(v, 1.0, True).numpy() == 0).all()
    a = an.asarray(x(5, 6), requires_grad=True)
    an.random.manual_seed(4)
    an.sum(F.alpha_dropout(a, 0.3, True)).backward()
    assert len(np.unique(a.grad.numpy())) == 2


def test_refusals():
    for make, error, message in (
        (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), ValueError, "divisible by groups"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError, "must be 'zeros'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3)(an.ones((1, 2, 5, 5))), nn.ShapeError, "with 3 channels"),
        (lambda: nn.InstanceNorm1d(3)(an.ones((2, 4, 5))), nn.ShapeError, "with 3 channels"),
        (lambda: nn.InstanceNorm1d(3)(an.ones((2, 3, 1))), ValueError, "more than one value"),
        (lambda: nn.RMSNorm(3)(an.ones((2, 4))), nn.ShapeError, r"expected \(…, 3\)"),
        (lambda: nn.LocalResponseNorm(0)(an.ones((1, 2, 3))), ValueError, "size ≥ 1"),
        (lambda: nn.ReflectionPad2d((1, 2)), ValueError, "4 of them"),
        (lambda: nn.ReflectionPad1d(3)(an.ones((1, 1, 3))), ValueError, "at most 2"),
        (lambda: nn.ZeroPad2d(1)(an.ones(3)), nn.ShapeError, "expected 4 axes"),
        (lambda: nn.PixelShuffle(2)(an.ones((1, 3, 2, 2))), ValueError, "divisible by 2²"),
        (lambda: nn.PixelUnshuffle(2)(an.ones((1, 3, 3, 2))), ValueError, "divisible by 2"),
        (lambda: nn.ChannelShuffle(2)(an.ones((1, 3, 3))), ValueError, "divisible by 2"),
        (lambda: nn.Bilinear(0, 1, 1), ValueError, "out_features must be ≥ 1"),
        (lambda: nn.Bilinear(2, 3, 4)(an.ones((5, 2)), an.ones((5, 2))), nn.ShapeError, r"\(…, 3\)"),
        (lambda: F.bilinear(an.ones((5, 2)), an.ones((4, 3)), an.ones((1, 2, 3))), ValueError, "equal axes"),
    ):
        with pytest.raises(error, match=message):
            make()
