"""PyTorch's own sample inputs for functions and modules: the same values, gradients and refusals.

`torch.testing._internal` is what PyTorch tests itself with. Of each name a few samples are run, all of them where the
environment variable ANYNET_TORCH_SAMPLES is "all".
"""

import importlib
import os
import sys
import types
import unittest
import warnings

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

F, nn = an.nn.functional, an.nn
pytestmark = pytest.mark.filterwarnings("ignore")  # the samples are made for more than this
MOST = 10**6 if os.environ.get("ANYNET_TORCH_SAMPLES") == "all" else 4

# name: what its samples are left out for
OTHER = {
    "ctc_loss": "PyTorch's gradient is that of log_softmax and ctc_loss together: see test_ctc",
    "CTCLoss": "PyTorch's gradient is that of log_softmax and ctc_loss together: see test_ctc",
    "triplet_margin_with_distance_loss": "the samples hand over a module of PyTorch",
    "TransformerEncoder": "the samples hand over a module of PyTorch: see test_transformer",
    "FractionalMaxPool2d": "the samples are a buffer there: see test_grid_sample_and_fractional_pooling",
    "FractionalMaxPool3d": "the samples are a buffer there: see test_grid_sample_and_fractional_pooling",
    **dict.fromkeys(
        ("dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rrelu", "gumbel_softmax",
         "fractional_max_pool2d", "fractional_max_pool3d"), "random, from streams of its own"),
}  # fmt: skip
STRICTER = {
    "gaussian_nll_loss": "must have equal shapes",  # losses broadcast nothing
    "batch_norm": r"x must have shape \(batch, channels",
    "linear_cross_entropy": "options",
    "avg_pool2d": "stride must be",  # an empty stride
    "Linear": "unexpected keyword argument 'input'",
}
LESS_STRICT = {
    "BatchNorm1d": "eps=0", "BatchNorm2d": "eps=0", "BatchNorm3d": "eps=0", "NLLLoss": "the weight is looked at in a call",
    "HuberLoss": "delta is looked at in a call", "max_pool1d": "no channels", "max_pool3d": "no channels",
    "GRU": "the samples' dtype", "LSTM": "the samples' dtype", "RNN": "the samples' dtype",
}  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    """The databases of functions and of modules; they need a package for tests of which nothing is used."""
    stub = types.ModuleType("expecttest")
    stub.TestCase = unittest.TestCase
    added = sys.modules.setdefault("expecttest", stub) is stub
    try:
        with warnings.catch_warnings():  # marks do not reach fixtures
            warnings.simplefilter("ignore")
            ops = importlib.import_module("torch.testing._internal.common_methods_invocations").op_db
            modules = importlib.import_module("torch.testing._internal.common_modules").module_db
    except ImportError as error:
        pytest.skip(f"torch.testing._internal: {error}")
    finally:
        if added:
            del sys.modules["expecttest"]
    return ops, modules


def few(items):
    items = list(items)
    return items[:: max(len(items) // MOST, 1)]


def ours(value, variables):
    """The same for anynet; pairs of variables are noted."""
    if isinstance(value, torch.Tensor):
        x = an.asarray(value.detach().numpy().copy())
        if value.requires_grad:
            x = an.asarray(x, requires_grad=True)
            variables.append((value, x))
        return x
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        return type(value)(ours(v, variables) for v in value)
    if isinstance(value, dict):
        return {k: ours(v, variables) for k, v in value.items()}
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return F.gelu if value is torch.nn.functional.gelu else value


def flat(y):
    if isinstance(y, (torch.Tensor, an.Tensor)):
        return [y]
    return [z for x in y for z in flat(x)] if isinstance(y, (list, tuple)) else []


def unequal(a, b):
    a, b = a.detach().numpy(), b.detach().numpy()
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{a.shape}, PyTorch {b.dtype}{b.shape}"
    close = np.isclose(a, b, rtol=1e-6, atol=1e-8, equal_nan=True)
    return "" if close.all() else f"{a[~close][0]}, PyTorch {b[~close][0]}"


def compare(ys, zs, pairs):
    """What is different in values and gradients; `pairs` are PyTorch's and anynet's variables."""
    if len(ys) != len(zs):
        return f"{len(ys)} outputs, PyTorch {len(zs)}"
    for y, z in zip(ys, zs, strict=True):
        if problem := unequal(y, z):
            return problem
    traced = [(y, z) for y, z in zip(ys, zs, strict=True) if z.requires_grad]
    if not traced:
        return ""
    rng = np.random.default_rng(0)
    total, loss = 0.0, 0.0
    for y, z in traced:
        w = rng.normal(size=y.shape)
        total, loss = total + an.sum(y * an.asarray(w)), loss + (z * torch.tensor(w)).sum()
    try:
        expected = torch.autograd.grad(loss, [t for t, _ in pairs], allow_unused=True)
    except RuntimeError:  # PyTorch has no gradient there
        return ""
    total.backward()
    for (_, x), g in zip(pairs, expected, strict=True):
        if g is None or (x.grad is None and not g.any()):
            continue
        if x.grad is not None:  # a gradient of 0 stays 0, where PyTorch has 0 · nan
            g = torch.where(g.isnan() & (torch.tensor(x.grad.numpy()) == 0), 0.0, g)
        if problem := "none" if x.grad is None else unequal(x.grad, g):
            return f"gradient {problem}"
    return ""


def outcome(call):
    try:
        return call(), None
    except Exception as error:
        return None, error


def verdict(name, mine, theirs, pairs):
    (y, refused), (z, wrong) = mine, theirs
    if wrong is not None:
        return "" if refused is not None else "PyTorch refuses it"
    if refused is not None:
        known = STRICTER.get(name)
        return (
            "" if known and known.split(r"\(")[0] in str(refused) else f"{type(refused).__name__}: {refused}"
        )
    return compare(flat(y), flat(z), pairs)


def swapped(name, function):
    """Embeddings take their weight first in the samples."""
    return (lambda w, i, *a, **k: function(i, w, *a, **k)) if name.startswith("embedding") else function


def test_functions(samples):
    problems, count = [], 0
    for op in samples[0]:
        name = op.name.removeprefix("nn.functional.")
        if name == op.name or not hasattr(F, name) or name in OTHER:
            continue
        for sample in few(op.sample_inputs("cpu", torch.float64, requires_grad=True)):
            if sample.kwargs.get("dropout_p") or (name.startswith("multi_head") and sample.args[9]):
                continue
            pairs = []
            args = [ours(sample.input, pairs), *ours(list(sample.args), pairs)]
            kwargs = ours(sample.kwargs, pairs)
            theirs = outcome(lambda: op.op(sample.input, *sample.args, **sample.kwargs))  # noqa: B023
            mine = outcome(lambda: swapped(name, getattr(F, name))(*args, **kwargs))  # noqa: B023
            count += 1
            if problem := verdict(name, mine, theirs, pairs):
                problems.append(f"{name}: {problem[:200]} | {sample.summary()[:200]}")
    assert count > 350
    assert not problems, "\n".join(problems)


def test_modules(samples):
    problems, count = [], 0
    for info in samples[1]:
        name = info.name.split(".")[-1]
        if name in OTHER:
            continue
        for training in (True, False) if info.train_and_eval_differ else (True,):
            for sample in few(info.module_inputs_func(info, "cpu", torch.float64, True, training)):
                new, call = sample.constructor_input, sample.forward_input
                if call is None or new.kwargs.get("options") is not None:
                    continue
                if name == "KLDivLoss" and sample.desc.startswith(
                    "scalar"
                ):  # input and target are one variable
                    continue
                count += 1
                problem = one_module(name, info.module_cls, new, call, training)
                if problem:
                    problems.append(f"{name}: {problem[:200]} | {new.args} {new.kwargs} {sample.desc}")
    assert count > 200
    assert not problems, "\n".join(problems)


def one_module(name, cls, new, call, training):
    theirs = cls(*new.args, **new.kwargs).double().train(training)
    mine = getattr(nn, name)(*ours(list(new.args), []), **ours(new.kwargs, [])).double().train(training)
    pairs = []
    args, kwargs = ours(list(call.args), pairs), ours(call.kwargs, pairs)
    if not name.startswith("Lazy"):
        mine.load_state_dict(
            {k: an.asarray(v.detach().numpy().copy()) for k, v in theirs.state_dict().items()}
        )
        own = dict(mine.named_parameters())
        pairs += [(p, own[k]) for k, p in theirs.named_parameters()]
    z, y = outcome(lambda: theirs(*call.args, **call.kwargs)), outcome(lambda: mine(*args, **kwargs))
    if name.startswith("Lazy") and y[1] is None:
        return "" if [t.shape for t in flat(y[0])] == [tuple(t.shape) for t in flat(z[0])] else "shape"
    if problem := verdict(name, y, z, pairs):
        return problem
    return next(
        (f"{k} {p}" for k, v in mine.state_dict().items() if (p := unequal(v, theirs.state_dict()[k]))), ""
    )


def test_what_pytorch_refuses(samples):
    accepted = []
    for op in samples[0]:
        name = op.name.removeprefix("nn.functional.")
        if name == op.name or not hasattr(F, name) or op.error_inputs_func is None or name in LESS_STRICT:
            continue
        for item in few(op.error_inputs("cpu")):
            s = item.sample_input
            call = swapped(name, getattr(F, name))
            _, refused = outcome(
                lambda: call(ours(s.input, []), *ours(list(s.args), []), **ours(s.kwargs, []))  # noqa: B023
            )
            if refused is None:
                accepted.append(f"{name}: {item.error_regex[:100]} | {s.summary()[:200]}")
    for info in samples[1]:
        name = info.name.split(".")[-1]
        if info.module_error_inputs_func is None or name in LESS_STRICT:
            continue
        for item in few(info.module_error_inputs_func(info, "cpu", torch.float64, True, True)):
            new, call = item.module_error_input.constructor_input, item.module_error_input.forward_input

            def run():
                module = getattr(nn, name)(*ours(list(new.args), []), **ours(new.kwargs, [])).double()  # noqa: B023
                if call is not None:  # noqa: B023
                    module(*ours(list(call.args), []), **ours(call.kwargs, []))  # noqa: B023

            if outcome(run)[1] is None:
                accepted.append(f"{name}: {item.error_regex[:100]} | {new.args} {new.kwargs}")
    assert not accepted, "\n".join(accepted)
