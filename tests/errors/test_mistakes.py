"""Mistakes that users make, and what they are told: where, what was got, what was expected, what to do."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import anynet as an
from anynet import _hints, nn, optim, train
from anynet.nn import functional as F

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)


def x():
    return an.ones((2, 3))


def w():
    return an.asarray([1.0, 2.0], requires_grad=True)


def layer():
    return nn.Linear(3, 2)


def parameters():
    return list(layer().parameters())


def sgd(**options):
    return optim.SGD(parameters(), lr=0.1, **options)


def fit(model=None, data=(X, Y), **options):
    options = {"loss": "cross_entropy", "progress": False, "device": "cpu", **options}
    return an.fit(nn.Linear(5, 3) if model is None else model, data, **options)


def assign(name, value, t=None):
    setattr(w() if t is None else t, name, value)


class Misnamed(train.Callback):
    def on_epoch_ended(self, model, record):
        """fit calls on_epoch_end."""


class NoForward(nn.Module):
    pass


# ----- arrays -----

ARRAYS = {
    "a masked array": (
        lambda: an.asarray(np.ma.masked_array([1.0, 2.0], [True, False])), TypeError, r"1 of its 2 values is masked, .*filled\(",
    ),
    "a masked row": (
        lambda: an.asarray([np.ones(2), np.ma.masked_array([1.0, 2.0], [True, False])]), TypeError, "1 of its 2 values is masked",
    ),
    "fit a masked array": (
        lambda: fit(data=(np.ma.masked_array(X, X > 1), Y)), TypeError, r"values are masked, .*filled\(",
    ),
    "bfloat16 of NumPy": (lambda: an.asarray([1.5], dtype="bfloat16"), TypeError, "the numpy backend has no dtype bfloat16"),
    "2**70": (lambda: an.asarray([2**70]), OverflowError, "1180591620717411303424 does not fit into 64 bits"),
    "x.size(0)": (lambda: x().size(0), TypeError, r"number of elements \(6\), not a method; .*x\.shape\[0\]"),
    "x.size()": (lambda: x().size(), TypeError, r"not a method; the lengths of the axes are x\.shape"),
    "an.tensor": (lambda: an.tensor([1.0]), TypeError, r"anynet\.asarray\(data"),
    "zeros(2, 3)": (lambda: an.zeros(2, 3), TypeError, r"the shape is one argument: zeros\(\(2, 3\)\)"),
    "ones(2, 3, 4)": (lambda: an.ones(2, 3, 4), TypeError, r"the shape is one argument: ones\(\(2, 3, 4\)\)"),
    "empty(2, 3)": (lambda: an.empty(2, 3), TypeError, r"empty\(\(2, 3\)\)"),
    "reshape(x, 3, 2)": (lambda: an.reshape(x(), 3, 2), TypeError, r"reshape\(x, \(3, 2\)\)"),
    "sum(dim)": (lambda: an.sum(x(), dim=1), TypeError, "'dim'; it is axis here"),
    "sum(keepdim)": (lambda: an.sum(x(), axis=1, keepdim=True), TypeError, "'keepdim'; it is keepdims here"),
    "sum(x, 1)": (lambda: an.sum(x(), 1), TypeError, r"by its name: sum\(x, axis=1\)"),
    "mean(x, 0)": (lambda: an.mean(x(), 0), TypeError, r"mean\(x, axis=0\)"),
    "mean(axes)": (lambda: an.mean(x(), axes=(0, 1)), TypeError, "it is axis here"),
    "std(unbiased)": (lambda: an.std(x(), unbiased=True), TypeError, "it is correction here"),
    "concat(dim)": (lambda: an.concat([x(), x()], dim=0), TypeError, "it is axis here"),
    "stack(dim)": (lambda: an.stack([x(), x()], dim=0), TypeError, "it is axis here"),
    "argmax(dim)": (lambda: an.argmax(x(), dim=0), TypeError, "it is axis here"),
    "sum(axsi)": (lambda: an.sum(x(), axsi=0), TypeError, "did you mean 'axis'"),
    "sum axis 5": (lambda: an.sum(x(), axis=5), IndexError, "axis 5 is out of range for 2 dimensions"),
    "ragged list": (lambda: an.asarray([[1, 2], [3]]), ValueError, r"rows of different lengths, got \[1, 2\]; pad"),
    "strings": (lambda: an.asarray(["a", "b"]), TypeError, "cannot make a Tensor of texts, got a list with"),
    "array of strings": (lambda: an.asarray(np.array(["a", "b"])), TypeError, r"got strings .*return_inverse"),
    "array of objects": (lambda: an.asarray(np.array([object()])), TypeError, "got objects"),
    "None": (lambda: an.asarray(None), TypeError, "NoneType None; give numbers"),
    "a dict": (lambda: an.asarray({"a": 1}), TypeError, "dict .*; give numbers"),
    "a set": (lambda: an.asarray({1, 2}), TypeError, "set .*; give numbers"),
    "dtype": (lambda: an.ones(2, dtype="flot32"), TypeError, "did you mean 'float32'"),
    "device": (lambda: an.ones(2, device="gpu9"), ValueError, "unknown device 'gpu9': Known: cpu, cuda"),
    "index out of range": (lambda: x()[5], IndexError, "index 5 is out of bounds for axis 0 with size 2"),
    "too many indices": (lambda: x()[0, 0, 0], IndexError, r"3 for a Tensor of shape \(2, 3\)"),
    "float index": (lambda: x()[1.0], IndexError, "an integer, a slice, None, .* got float32"),
    "string index": (lambda: x()["a"], TypeError, "str 'a'; give numbers"),
    "x + 'a'": (lambda: x() + "a", TypeError, "'Tensor' and 'str'"),
    "float(vector)": (lambda: float(x()), TypeError, r"only a 0-d Tensor .*\(2, 3\); try x\[0\] or item"),
    "if vector": (lambda: bool(x() > 0), TypeError, r"Python bool, got shape \(2, 3\)"),
    "int(vector)": (lambda: int(x()), TypeError, "Python int"),
    "item of many": (lambda: x().item(), ValueError, r"item\(\) needs one element, got shape \(2, 3\)"),
    "format of many": (lambda: f"{x():.4f}", TypeError, r"needs a Tensor of one element, got shape \(2, 3\)"),
    "len of a number": (lambda: len(an.asarray(1.0)), TypeError, "0-d Tensor has no length"),
    "x.T of 3 axes": (lambda: an.ones((2, 2, 2)).T, ValueError, r"x\.mT for stacks"),
    "data = number": (lambda: assign("data", 3), TypeError, r"an array or a Tensor, got int; .*x\[\.\.\.\] = number"),
    "data = another shape": (lambda: assign("data", an.ones(3)), ValueError, r"assign_ of shape \(3,\) to a Tensor of shape \(2,\)"),
    "data = another array": (lambda: assign("data", np.ones(3)), ValueError, r"must keep its form: got \(3,\)"),
    "grad of another shape": (lambda: assign("grad", an.ones(3)), ValueError, r"gradient of shape \(3,\)"),
    "np.asarray(x)": (lambda: np.asarray(w() * 2), RuntimeError, r"say x\.detach\(\) or x\.numpy\(\)"),
    "np.add.reduce(x)": (lambda: np.add.reduce(x()), TypeError, r"ufunc add\.reduce .*x\.detach\(\)\.numpy\(\)"),
    "np.spacing(x)": (lambda: np.spacing(x()), TypeError, "ufunc spacing"),
    "no broadcast": (lambda: x() + an.ones(4), ValueError, r"\(2,3\) \(4,\)"),
}  # fmt: skip

MISSING = {  # what is written: what the message names
    **{f"x.{name}": here for name, here in {
        "view": "anynet.reshape", "permute": "anynet.permute_dims", "transpose": "anynet.permute_dims", "cuda": 'x.to("cuda")',
        "cpu": 'x.to("cpu")', "float": "anynet.astype", "double": "anynet.float64", "long": "anynet.int64",
        "clone": "anynet.asarray(x, copy=True)", "sum": "anynet.sum(x)", "mean": "anynet.mean(x)", "exp": "anynet.exp(x)",
        "reshape": "anynet.reshape(x)", "unsqueeze": "anynet.expand_dims", "squeeze": "anynet.squeeze(x)", "expand": "anynet.broadcast_to",
        "contiguous": "leave it out", "t": "x.T", "norm": "vector_norm", "flatten": "anynet.reshape(x, (-1,))",
        "softmax": "functional.softmax", "add_": "x += y", "mul_": "x *= y", "zero_": "x[...] = 0", "copy_": "x.assign_(y)",
        "fill_": "x[...] = value", "masked_fill": "anynet.where", "gather": "anynet.gather(x", "dim": "x.ndim", "numel": "x.size",
        "new_zeros": "zeros_like", "astype": "anynet.astype(x)",
    }.items()},
    **({"x.detatch": "did you mean 'detach'", "x.shap": "did you mean 'shape'"} if sys.version_info >= (3, 12) else {}),
    **{f"an.{name}": here for name, here in {
        "cat": "anynet.concat", "from_numpy": "anynet.asarray", "array": "anynet.asarray", "manual_seed": "anynet.random.manual_seed",
        "randn": "anynet.random.normal", "rand": "anynet.random.uniform", "bmm": "anynet.matmul",
        "mm": "anynet.matmul", "norm": "anynet.linalg.vector_norm", "unsqueeze": "anynet.expand_dims", "clamp": "anynet.clip",
        "softmax": "anynet.nn.functional.softmax", "relu": "anynet.nn.functional.relu", "inference_mode": "anynet.no_grad",
        "cumsum": "anynet.cumulative_sum", "transpose": "anynet.permute_dims", "dot": "anynet.vecdot", "amax": "anynet.max",
        "cross_entropy": "anynet.nn.functional.cross_entropy", "Linear": "anynet.nn.Linear", "Module": "anynet.nn.Module",
        "unique": "anynet.unique_values", "split": "slices", "hstack": "axis=1", "rsqrt": "anynet.sqrt", "jit": "anynet.compile",
        "float16": 'dtype="float16"', "logsumexp": "functional.logsumexp", "maen": "did you mean 'mean'",
    }.items()},
    "nn.Relu": "did you mean 'ReLU'", "nn.Linaer": "did you mean 'Linear'", "nn.Conv2D": "did you mean 'Conv2d'",
    "F.sofmax": "did you mean 'softmax'", "F.crossentropy": "did you mean 'cross_entropy'", "optim.ADAM": "did you mean 'Adam'",
    "optim.AdamWW": "did you mean 'AdamW'",
}  # fmt: skip

# ----- layers and losses -----

LAYERS = {
    "Linear('3', 2)": (lambda: nn.Linear("3", 2), TypeError, "Linear: in_features must be an integer, got '3'"),
    "Linear(3.0, 2)": (lambda: nn.Linear(3.0, 2), TypeError, "in_features must be an integer, got 3.0"),
    "Linear(3)": (lambda: nn.Linear(3), TypeError, "missing 1 required positional argument: 'out_features'"),
    "Linear(bais)": (lambda: nn.Linear(3, 2, bais=False), TypeError, "no argument 'bais'; did you mean 'bias'"),
    "Linear(bias='no')": (lambda: nn.Linear(3, 2, bias="no"), TypeError, "bias must be True or False, got 'no'"),
    "Dropout('0.5')": (lambda: nn.Dropout("0.5"), TypeError, "Dropout: p must be a number, got '0.5'"),
    "Dropout(2)": (lambda: nn.Dropout(2.0), ValueError, r"got 2\.0"),
    "kernel size": (lambda: nn.Conv2d(1, 2, "3"), TypeError, "kernel_size must be an integer or 2 of them, got '3'"),
    "kernel 0": (lambda: nn.Conv2d(1, 2, 0), ValueError, "kernel_size must be an integer ≥ 1"),
    "groups": (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "divisible by groups, got in_channels=3, out_channels=4, groups=2"),
    "heads": (lambda: nn.MultiheadAttention(10, 3), ValueError, "multiple of num_heads, got 10 and 3"),
    "LSTM of 0": (lambda: nn.LSTM(3, 0), ValueError, "hidden_size=0"),
    "layer of a list": (lambda: layer()([[1.0, 2.0, 3.0]]), TypeError, "a Tensor or an array, got list; anynet.asarray"),
    "layer of None": (lambda: layer()(None), TypeError, "a Tensor or an array, got NoneType"),
    "layer of nothing": (lambda: layer()(), TypeError, "missing 1 required positional argument"),
    "shape": (lambda: layer()(an.ones((2, 4))), nn.ShapeError, r"\(2, 4\): last axis 4, expected 3"),
    "integers": (lambda: layer()(an.ones((2, 3), dtype=an.int64)), TypeError, r"dtype of weight, float32, got int64; convert"),
    "float64": (lambda: layer()(np.ones((2, 3))), TypeError, "dtype of weight, float32, got float64; convert"),
    "Conv2d of 2 axes": (lambda: nn.Conv2d(3, 4, 3)(an.ones((3, 8))), nn.ShapeError, "expected 4 axes"),
    "BatchNorm2d of 2 axes": (lambda: nn.BatchNorm2d(3)(x()), nn.ShapeError, "expected 4 axes"),
    "batch norm of one": (lambda: nn.BatchNorm1d(3)(an.ones((1, 3))), ValueError, "more than one value per channel"),
    "LayerNorm": (lambda: nn.LayerNorm(4)(x()), nn.ShapeError, r"the last axes must be \(4,\)"),
    "pooling window": (lambda: nn.MaxPool2d(5)(an.ones((1, 1, 3, 3))), ValueError, "take a smaller kernel"),
    "embedding of floats": (lambda: nn.Embedding(3, 2)(an.ones(2)), TypeError, "indices must be integers, got float32"),
    "embedding of -1": (lambda: nn.Embedding(3, 2)(an.asarray([-1])), IndexError, "index -1 is out of range"),
    "Sequential of a list": (lambda: nn.Sequential([layer()]), TypeError, "Sequential: items must be modules, got list"),
    "Sequential of a function": (lambda: nn.Sequential(layer(), F.relu), TypeError, "Sequential: items must be modules, got relu"),
    "Sequential of a class": (lambda: nn.Sequential(layer(), nn.ReLU), TypeError, "give an instance"),
    "ModuleList(layer)": (lambda: nn.ModuleList(layer()), TypeError, r"got Linear; write ModuleList\(\[…\]\)"),
    "no forward": (lambda: NoForward()(x()), NotImplementedError, r"NoForward: the class must define forward\(\)"),
    "softmax dim": (lambda: F.softmax(x(), dim=5), IndexError, "axis 5 is out of range"),
    "reduction": (lambda: nn.MSELoss(reduction="avg"), ValueError, "'mean', 'sum' or 'none', got 'avg'"),
    "labels of floats": (lambda: F.cross_entropy(x(), an.ones(2)), TypeError, "class indices must be integers, got float32"),
    "label 7": (lambda: F.cross_entropy(x(), an.asarray([0, 7])), IndexError, "class index 7 is out of range for 3 classes"),
    "labels' shape": (lambda: F.cross_entropy(x(), an.asarray([0, 1, 2])), ValueError, r"must have shape \(2,\), got \(3,\)"),
    "scores of integers": (lambda: F.cross_entropy(an.asarray([[1, 2]]), an.asarray([0])), TypeError, "floating-point scores, got int64"),
    "broadcast": (lambda: F.mse_loss(an.ones((2, 1)), an.ones(2)), ValueError, r"nothing is broadcast \(give the target a second axis"),
    "no probability": (lambda: F.binary_cross_entropy(an.ones(1) + 1, an.ones(1)), ValueError, "binary_cross_entropy_with_logits"),
    "interpolation mode": (lambda: F.interpolate(an.ones((1, 1, 2, 2)), scale_factor=2, mode="linearr"), ValueError, "got 'linearr'"),
    "state: a path": (lambda: layer().load_state_dict("m.safetensors"), TypeError, r"got str; load the file first: anynet\.load"),
    "state: a name": (lambda: layer().load_state_dict({"wight": x()}), nn.StateError, r"wight \(did you mean weight\?\)"),
    "state: a shape": (
        lambda: layer().load_state_dict({"weight": x().T, "bias": an.ones(2)}), nn.StateError, r"got shape \(3, 2\), expected \(2, 3\)"),
    "state: of a run": (
        lambda: layer().load_state_dict({"model": {}, "optimizer": {}, "epoch": 1}), nn.StateError, r"entry 'model': state\[\"model\"\]"),
    "Parameter of integers": (lambda: nn.Parameter(an.asarray([1, 2])), TypeError, r"int64; convert it: anynet\.astype"),
    "seed": (lambda: an.random.manual_seed("a"), ValueError, "a seed must be an integer from 0"),
}  # fmt: skip

# ----- gradients and optimizers -----

GRADIENTS = {
    "backward of a constant": (lambda: an.sum(x()).backward(), an.GradientError, "make one with requires_grad=True"),
    "backward of a vector": (lambda: (w() * 2).backward(), an.GradientError, "reduce it to a scalar first"),
    "backward twice": (lambda: (lambda y: (y.backward(), y.backward()))(an.sum(w() ** 2)), an.GradientError, "retain_graph=True"),
    "grad of a vector": (lambda: an.grad(lambda v: v)(an.ones(3)), an.GradientError, "must return a scalar"),
    "grad of an integer": (lambda: an.grad(lambda v: v)(an.asarray(3)), TypeError, "only floating-point arrays"),
    "vmap of other lengths": (lambda: an.vmap(lambda a, b: a + b)(x(), an.ones((3, 3))), ValueError, "batch sizes differ"),
    "compile(3)": (lambda: an.compile(3), TypeError, "takes a function, got int"),
    "Adam()": (lambda: optim.Adam(), TypeError, "missing 1 required positional argument: 'params'"),
    "Adam(model)": (lambda: optim.Adam(layer()), TypeError, r"got Linear; give its parameters\(\)"),
    "Adam([])": (lambda: optim.Adam([]), ValueError, "Adam: params must hold at least one parameter, got none"),
    "Adam of arrays": (lambda: optim.Adam([np.ones(2)]), TypeError, "Adam optimizes Parameters, got ndarray"),
    "Adam of a state": (lambda: optim.Adam(layer().state_dict()), TypeError, "got a dict"),
    "learning_rate": (lambda: optim.Adam(parameters(), learning_rate=0.1), TypeError, "unknown option 'learning_rate'"),
    "lr of text": (lambda: optim.Adam(parameters(), lr="0.1"), ValueError, "lr must be a number ≥ 0, got '0.1'"),
    "negative lr": (lambda: optim.Adam(parameters(), lr=-1), ValueError, "lr must be a number ≥ 0, got -1"),
    "betas": (lambda: optim.Adam(parameters(), betas=0.9), ValueError, r"betas must be 2 numbers, got 0\.9"),
    "momentum of text": (lambda: sgd(momentum="0.9"), ValueError, "momentum must be a number ≥ 0, got '0.9'"),
    "nesterov": (lambda: sgd(nesterov=True), ValueError, "with nesterov, momentum must be > 0"),
    "given twice": (lambda: optim.SGD([*(p := parameters()), *p], lr=0.1), ValueError, "is given twice"),
    "written into a group": (lambda: sgd().param_groups[0].__setitem__("lr", "x"), ValueError, "lr must be a number ≥ 0, got 'x'"),
    "StepLR(model)": (lambda: optim.StepLR(layer(), 3), TypeError, "StepLR takes an Optimizer, got Linear"),
    "StepLR without a step": (lambda: optim.StepLR(sgd()), TypeError, "'step_size'"),
}  # fmt: skip

# ----- training -----

TRAINING = {
    "loss": (lambda: fit(loss="mes"), ValueError, "unknown loss 'mes'; did you mean 'mse'"),
    "metric": (lambda: fit(metrics=["acuracy"]), ValueError, "unknown metric 'acuracy'; did you mean 'accuracy'"),
    "epochs='3'": (lambda: fit(epochs="3"), TypeError, "epochs must be an integer .*, got '3'; write epochs=3"),
    "epochs=1.5": (lambda: fit(epochs=1.5), ValueError, r"epochs must be an integer of at least 1, got 1\.5"),
    "epochs=0": (lambda: fit(epochs=0), ValueError, "epochs must be an integer of at least 1, got 0"),
    "epoch=3": (lambda: fit(epoch=3), TypeError, "'epoch'; did you mean 'epochs'"),
    "learning_rate": (lambda: fit(learning_rate=0.1), TypeError, "'learning_rate'; it is lr here"),
    "a class as model": (lambda: fit(model=nn.Linear), TypeError, "must be a Module, got the class Linear"),
    "a function as model": (lambda: fit(model=lambda v: v), TypeError, "must be a Module, got function"),
    "string labels": (lambda: fit(data=(X, np.array(list("abcd") * 10))), TypeError, "got strings"),
    "ragged inputs": (lambda: fit(data=([[1, 2], [3]], [0, 1])), TypeError, r"different lengths, got \[1, 2\]"),
    "no targets": (lambda: fit(data=X), TypeError, "the targets are missing"),
    "a dict": (lambda: fit(data={"x": X, "y": Y}), ValueError, "a mapping must have inputs and one of targets, labels, label.*got x, y"),
    "lengths": (lambda: fit(data=(X, Y[:5])), ValueError, r"lengths \[40, 5\]"),
    "no rows": (lambda: fit(data=(X[:0], Y[:0])), ValueError, "fit, train: the data are empty"),
    "empty validation": (lambda: fit(val=(X[:0], Y[:0])), ValueError, "fit, val: the data are empty"),
    "labels from 1": (lambda: fit(data=(X, Y + 1)), IndexError, "class index 3 is out of range for 3 classes"),
    "optimizer": (lambda: fit(optimizer="adma"), ValueError, "unknown optimizer 'adma'; did you mean"),
    "optimizer of another": (lambda: fit(optimizer=optim.Adam(nn.Linear(5, 3).parameters())), ValueError, "not the model's"),
    "lr of text": (lambda: fit(lr="0.1"), TypeError, "lr must be a number of at least 0, got '0.1'"),
    "lr=nan": (lambda: fit(lr=float("nan")), ValueError, "lr must be a finite number .* got nan"),
    "batch_size=0": (lambda: fit(batch_size=0), ValueError, "batch_size must be an integer of at least 1, got 0"),
    "batch_size='8'": (lambda: fit(batch_size="8"), TypeError, "write batch_size=8, without quotes"),
    "clip_norm=0": (lambda: fit(clip_norm=0), ValueError, "clip_norm must be a finite number above 0, got 0"),
    "clip_norm=nan": (lambda: fit(clip_norm=float("nan")), ValueError, "above 0, got nan"),
    "monitor": (lambda: fit(monitor="acc"), ValueError, "unknown quantity 'acc'; known: loss"),
    "monitor without val": (lambda: fit(monitor="val_loss"), ValueError, "give fit a val set"),
    "mode": (lambda: fit(monitor="loss", mode="bigger"), ValueError, "'min' or 'max', got 'bigger'"),
    "a class as schedule": (lambda: fit(scheduler=optim.StepLR), TypeError, "the class StepLR needs step_size"),
    "a class as callback": (lambda: fit(callbacks=[train.EarlyStopping]), TypeError, r"write EarlyStopping\(\)"),
    "a function as callback": (lambda: fit(callbacks=[lambda: 0]), TypeError, "anynet.train.Callback or their names, got function"),
    "a callback's method": (lambda: fit(callbacks=[Misnamed()]), TypeError, "on_epoch_ended; did you mean on_epoch_end"),
    "run_dir=''": (lambda: fit(run_dir=" "), ValueError, "run_dir must be the path of a folder, got ' '"),
    "run_dir=3": (lambda: fit(run_dir=3), TypeError, "run_dir must be the path of a folder, got int 3"),
    "run_dir a file": (lambda: fit(run_dir=__file__), NotADirectoryError, "run_dir must be .*test_mistakes.py is a file"),
    "run_dir under a file": (lambda: fit(run_dir=__file__ + "/run"), NotADirectoryError, "test_mistakes.py is a file"),
    "resume a folder": (lambda: fit(resume="runs/1"), TypeError, "resume must be True or False, .*run_dir"),
    "settings a list": (lambda: fit(settings=[1]), TypeError, "settings must be a dict of plain data, got list"),
    "settings an array": (lambda: fit(settings={"x": X}), TypeError, "settings must be a dict of plain data, which JSON"),
    "verbose": (lambda: fit(verbose=0), TypeError, "'verbose'; it is progress here"),
    "validation_split": (lambda: fit(validation_split=0.2), TypeError, r"as val=0\.2"),
    "shuffle": (lambda: fit(shuffle=False), TypeError, r"DataLoader\(…, shuffle=False\)"),
    "class_weight": (lambda: fit(class_weights={0: 1}), TypeError, "it is class_weight here"),
    "sample_weight": (lambda: fit(sample_weight=[1.0]), TypeError, r"\(inputs, targets, weights\)"),
    "restore_best_weights": (lambda: fit(restore_best_weights=True), TypeError, "it is restore_best here"),
    "gradient_clip_val": (lambda: fit(gradient_clip_val=1.0), TypeError, "it is clip_norm here"),
    "patience of fit": (lambda: fit(patience=3), TypeError, r"EarlyStopping\(patience=…\)"),
    "resume without a folder": (lambda: fit(resume=True), ValueError, "resume=True needs run_dir"),
    "seed": (lambda: fit(seed="a"), TypeError, "seed must be an integer of at least 0, got 'a'"),
    "the model's shape": (lambda: fit(model=nn.Linear(4, 3)), nn.ShapeError, "last axis 5, expected 4"),
    "the target's shape": (lambda: fit(loss="mse"), ValueError, r"equal shapes, got \(32, 3\) and \(32,\)"),
    "several outputs": (lambda: fit(nn.LSTM(5, 3), data=(X, X[:, :3]), loss="mse"), TypeError, r"a tuple of 2, and mse_loss takes one"),
    "compile='yes'": (lambda: fit(compile="yes"), ValueError, "got 'yes'"),
    "loader": (lambda: an.data.DataLoader((X, Y), batch_size=-1), ValueError, "must be an integer ≥ 1, got -1"),
    "patience": (lambda: train.EarlyStopping("loss", patience=-1), ValueError, "patience must be an integer of at least 1, got -1"),
    "loss of evaluate": (lambda: an.evaluate(nn.Linear(5, 3), (X, Y), loss="cross_entropi"), ValueError, "did you mean 'cross_entropy'"),
    "save in the other order": (lambda: an.save({"a": X}, "m"), TypeError, r"expected a path and a dict, got dict and str"),
    "save a list": (lambda: an.save("m.safetensors", [1]), TypeError, "got str and list"),
    "save a network": (lambda: an.save("m.safetensors", nn.Linear(2, 2)), TypeError, r"anynet\.save\(path, x\.state_dict\(\)\)"),
    "many arrays": (lambda: fit(data=[X[0]] * 64), ValueError, r"got 64 arrays of lengths \[5, 5, 5, 5, 5, 5, …\]$"),
    "save as .pt": (lambda: an.save("m.pt", {"a": X}), ValueError, "call it m.safetensors"),
    "load nothing": (lambda: an.load("nothing.safetensors"), FileNotFoundError, "no checkpoint at"),
}  # fmt: skip

TABLE = {
    **ARRAYS,
    **LAYERS,
    **{f"gradient: {k}": v for k, v in GRADIENTS.items()},
    **{f"fit: {k}": v for k, v in TRAINING.items()},
}


@pytest.mark.parametrize("name", TABLE)
def test_told(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    mistake, kind, message = TABLE[name]
    state = an.random.get_state()
    with pytest.raises(kind) as caught:
        mistake()
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    if name.startswith("fit: "):
        after = an.random.get_state()
        assert after["masks"] == state["masks"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", MISSING)
def test_names_of_others(name):
    where, _, attribute = name.partition(".")
    place = {"x": x(), "an": an, "nn": nn, "F": F, "optim": optim}[where]
    with pytest.raises(AttributeError) as caught:
        getattr(place, attribute)
    assert MISSING[name] in str(caught.value)


def test_a_misspelt_attribute_of_a_tensor():
    """In the traceback, where Python shows it; and no other name that the Tensor has not is offered."""
    code = "import anynet as an; an.ones(2).{}"
    for name, near in (("detatch", "detach"), ("shap", "shape"), ("expp", None)):
        run = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True)
        last = run.stderr.strip().splitlines()[-1]
        assert f"'Tensor' object has no attribute '{name}'" in last
        assert ("did you mean" in last.lower() and f"'{near}'" in last) if near else "'exp'" not in last
    assert not {"view", "exp", "numel"} & {*dir(x()), *(n for n in dir(an.Tensor) if hasattr(an.Tensor, n))}


def test_files_of_pytorch(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    with pytest.raises(train.CheckpointError, match=r"m\.pt: .*torch\.save.*reads safetensors files only"):
        an.load(tmp_path / "m.pt")
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04\x95abc")
    with pytest.raises(train.CheckpointError, match="looks like a pickle"):
        an.load(tmp_path / "m.pkl")


def test_taken_as_other_libraries_take_it():
    """What used to be refused and has one meaning."""
    a = w()
    a.data -= 0.5 * an.ones(2)
    assert a.tolist() == [0.5, 1.5]
    a.data = an.zeros(2)
    assert a.tolist() == [0.0, 0.0]
    assert f"{an.sum(x()):.4f}" == "6.0000"
    assert f"{an.asarray([[2.5]]):.1f}" == "2.5"
    assert round(an.asarray(1.26), 1) == pytest.approx(1.3)
    assert x()[:, [0, 2]].shape == (2, 2)
    assert x()[1, None].shape == (1, 3)
    np.testing.assert_allclose(np.exp(x()).numpy(), np.e, rtol=1e-6)
    assert fit(loss="mae", data=(X, np.ones((40, 3), np.float32)), epochs=1)[0]["loss"] > 0
    assert "accuracy" in fit(metrics="accuracy", epochs=1)[0]

    @an.no_grad
    def recording():
        return an.is_grad_enabled()

    assert not recording()


def test_the_table_is_long_enough():
    assert len(TABLE) + len(MISSING) >= 220


def test_what_is_near_a_name_is_looked_for_when_the_error_is_read(monkeypatch):
    looked = []
    monkeypatch.setattr(_hints, "closest", lambda word, known: looked.append(word))
    tensor = an.ones(2)
    assert not hasattr(tensor, "detatch")
    assert getattr(tensor, "detatch", None) is None
    assert looked == []
    with pytest.raises(AttributeError) as caught:
        tensor.detatch  # noqa: B018
    assert str(caught.value).startswith("'Tensor' object has no attribute 'detatch'")
    assert looked == (["detatch"] if sys.version_info >= (3, 12) else [])
