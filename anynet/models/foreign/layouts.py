"""Arrays of Keras, Flax and Haiku as this library's layers have them: `adapt`, and a row for each kind of layer.

These three have channels last and write a product as x W: kernels are (in, out) and (places …, in, out) where PyTorch and this library
have (out, in) and (out, in, places …). A row takes the arrays of one layer by role, and gives the layer's tensors by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anynet import nn
from anynet.nn.errors import StateError
from anynet.nn.module import Module

__all__ = ["Layer", "adapt", "is_known"]


@dataclass
class Layer:
    """A layer of Keras: what the names of its arrays begin with; its class and options, where the file says them."""

    name: str
    kind: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Given:
    """The arrays of one layer: by role, or by number as Keras stores them."""

    arrays: dict[str, Any]
    config: Mapping[str, Any]
    channels: int = 0  # of the convolution before, if channels were last there
    reordered: bool = False

    def roles(self, *order: str) -> dict[str, Any]:
        """The arrays by role, where `order` says those of numbers."""
        if all(name.isdigit() for name in self.arrays):
            if any(int(name) >= len(order) for name in self.arrays):
                raise ValueError(
                    f"it must have {' and '.join(order) or 'no array'}, got {len(self.arrays)} arrays"
                )
            return {order[int(name)]: x for name, x in self.arrays.items()}
        found = {_ROLES.get(name, name): x for name, x in self.arrays.items()}
        if len(found) != len(self.arrays):
            raise ValueError(f"two of its arrays have one role: {', '.join(self.arrays)}")
        return found


_ROLES = {
    "w": "kernel", "b": "bias", "depthwise_kernel": "kernel", "gamma": "scale", "beta": "bias", "offset": "bias", "moving_mean": "mean",
    "moving_variance": "var", "embedding": "embeddings", "negative_slope": "alpha",
}  # fmt: skip


def _outside_in(kernel: Any) -> Any:
    """(places …, a, b) as (b, a, places …)."""
    n = kernel.ndim
    return kernel.transpose([n - 1, n - 2, *range(n - 2)])


def _kernel(found: Mapping[str, Any], axes: int) -> Any:
    kernel = found.get("kernel")
    if kernel is None or kernel.ndim != axes:
        got = "none" if kernel is None else f"shape {kernel.shape}"
        raise ValueError(f"it must have a kernel of {axes} axes, got {got}")
    return kernel


def _linear(layer: Any, given: _Given) -> dict[str, Any]:
    found = given.roles("kernel", "bias")
    kernel, channels = _kernel(found, 2), given.channels
    n = kernel.shape[0]
    if channels and n > channels and n % channels == 0:
        # channels were last where the places were flattened, and are first here
        kernel = kernel.reshape(n // channels, channels, -1).swapaxes(0, 1).reshape(n, -1)
        given.reordered = True
    return found | {"kernel": None, "weight": kernel.T}


def _conv(layer: Any, given: _Given) -> dict[str, Any]:
    found = given.roles("kernel", "bias")
    kernel = _kernel(found, len(layer.kernel_size) + 2)
    *places, into, out = kernel.shape
    if 1 < layer.groups == layer.in_channels == into:  # Keras's layer of a group for each channel
        kernel = kernel.reshape(*places, 1, into * out)
    return found | {"kernel": None, "weight": _outside_in(kernel)}


def _conv_transpose(layer: Any, given: _Given) -> dict[str, Any]:
    found, places = given.roles("kernel", "bias"), len(layer.kernel_size)
    kernel = _kernel(found, places + 2)
    if "kernel" in given.arrays and not given.config.get("keras"):  # Flax: (places …, in, out)
        kernel = kernel.swapaxes(-1, -2)
    if not given.config.get("keras"):  # JAX's transposed convolution does not turn the kernel round
        kernel = kernel[(slice(None, None, -1),) * places]
    return found | {"kernel": None, "weight": _outside_in(kernel)}


def _norm(layer: Any, given: _Given) -> dict[str, Any]:
    parts = [("scale", "scale"), ("bias", "center")][: 1 + hasattr(layer, "bias")]
    order = [role for role, option in parts if given.config.get(option, True)]
    order += ["mean", "var"] if getattr(layer, "running_mean", None) is not None else []
    numbered = all(name.isdigit() for name in given.arrays)
    if numbered and len(given.arrays) != len(order):
        raise ValueError(f"it must have {', '.join(order)}, got {len(given.arrays)} arrays")
    found = given.roles(*order)
    epsilon = given.config.get("epsilon")
    if isinstance(epsilon, float) and abs(epsilon - layer.eps) > 1e-6 * epsilon:
        raise ValueError(f"its eps must be {epsilon}, as in the file, got {layer.eps}")
    some = next(iter(found.values()))
    for role, name, value in (
        ("scale", "weight", 1),
        ("bias", "bias", 0),
    ):  # what Keras leaves out if it is not trained
        if role not in found and getattr(layer, name, None) is not None:
            found[role] = some * 0 + value
    names = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
    found = {names.get(role, role): x for role, x in found.items()}
    shapes = {name: x.shape for name, x in vars(layer).items() if hasattr(x, "shape")}
    # Haiku has axes of size 1 for the places
    return {
        k: x.reshape(shapes[k]) if k in shapes and _wide(x.shape) == _wide(shapes[k]) else x
        for k, x in found.items()
    }


def _wide(shape: Sequence[int]) -> list[int]:
    """The sizes that are not 1."""
    return [n for n in shape if n != 1]


def _embedding(layer: Any, given: _Given) -> dict[str, Any]:
    found = given.roles("embeddings")
    return found | {"embeddings": None, "weight": found.get("embeddings")}


def _prelu(layer: Any, given: _Given) -> dict[str, Any]:
    found = given.roles("alpha")
    alpha = found.get("alpha")
    return found | {"alpha": None, "weight": None if alpha is None else alpha.reshape(-1)}


def _attention(layer: Any, given: _Given) -> dict[str, Any]:
    parts: dict[str, dict[str, Any]] = {}
    for name, x in given.arrays.items():
        part, _, role = name.rpartition(".")
        part = {"attention_output": "output", "out": "output", "linear": "output"}.get(
            part.removesuffix("_dense"), part.removesuffix("_dense")
        )
        parts.setdefault(part, {})[role] = x
    three = ("query", "key", "value")
    if set(parts) != {*three, "output"}:
        raise ValueError(f"it must have query, key, value and output, got {', '.join(parts)}")
    roles = {part: _Given(arrays, {}).roles("kernel", "bias") for part, arrays in parts.items()}
    kernels = {part: found.pop("kernel") for part, found in roles.items()}
    heads = {k.shape[0 if part == "output" else 1] for part, k in kernels.items() if k.ndim == 3}
    if heads - {layer.num_heads}:
        raise ValueError(f"its num_heads must be {max(heads)}, as in the file, got {layer.num_heads}")
    weights = [kernels[part].reshape(kernels[part].shape[0], -1).T for part in three]
    concat = weights[0].__array_namespace__().concat
    if layer.in_proj_weight is None:
        made = dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), weights, strict=True))
    else:
        made = {"in_proj_weight": concat(weights)}
    made["out_proj.weight"] = kernels["output"].reshape(-1, kernels["output"].shape[-1]).T
    if all("bias" in roles[part] for part in three):
        made["in_proj_bias"] = concat([roles[part].pop("bias").reshape(-1) for part in three])
    left = {
        f"out_proj.{role}" if part == "output" else f"{part}.{role}": x
        for part, found in roles.items()
        for role, x in found.items()
    }
    return made | left


# ----- recurrent layers -----

_GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}
_KERAS_GATES = {"LSTM": "ifgo", "GRU": "zrn", "RNN": "h"}


def _recurrent(layer: Any, given: _Given) -> dict[str, Any]:
    """A layer of one or several levels and directions: the arrays of each lie under l0, l1, … and forward…, backward…."""
    cells: dict[str, dict[str, Any]] = {}
    for name, x in given.arrays.items():
        level, backward, rest = "l0", "", []
        for word in name.split("."):
            if re.fullmatch(r"l\d+", word):
                level = word
            elif word.startswith(("forward", "backward")):
                backward = "_reverse" if word.startswith("backward") else ""
            elif word not in ("cell", "layer") and not re.fullmatch(r"\w*_cell(_\d+)?", word):
                rest.append(word)
        suffix = f"_{level}{backward}" if hasattr(layer, "num_layers") else ""
        cells.setdefault(suffix, {})[".".join(rest)] = x
    made = {}
    for suffix, arrays in cells.items():
        cell = _Given(arrays, given.config)
        for name, x in (_keras_cell if "bias" in arrays or not any("." in n for n in arrays) else _flax_cell)(
            layer, cell
        ).items():
            made[f"{name}{suffix}"] = x
    return made


def _mode(layer: Any) -> str:
    return str(getattr(layer, "mode", type(layer).__name__)).partition("_")[0].removesuffix("Cell")


def _keras_cell(layer: Any, given: _Given) -> dict[str, Any]:
    mode = _mode(layer)
    found = given.roles("kernel", "recurrent_kernel", "bias")
    kernel, recurrent = found["kernel"], found["recurrent_kernel"]
    if mode == "GRU" and (
        given.config.get("reset_after") is False or ("bias" in found and found["bias"].ndim != 2)
    ):
        raise ValueError(
            "it resets before the product with the state (reset_after=False), which GRU does after it"
        )
    order = [_KERAS_GATES[mode].index(gate) for gate in _GATES[mode]]
    if kernel.ndim != 2 or recurrent.ndim != 2 or recurrent.shape[1] != len(order) * recurrent.shape[0]:
        raise ValueError(
            f"it must have {len(order)} gates, got kernels of shapes {kernel.shape} and {recurrent.shape}"
        )
    made = {"weight_ih": _gates(kernel, order).T, "weight_hh": _gates(recurrent, order).T}
    if (bias := found.get("bias")) is not None:
        both = bias if bias.ndim == 2 else [bias, bias * 0]
        made |= {"bias_ih": _gates(both[0], order), "bias_hh": _gates(both[1], order)}
    return made


def _gates(x: Any, order: Sequence[int]) -> Any:
    """The gates, which lie in a row along the last axis, in another order."""
    n = x.shape[-1] // len(order)
    return x.__array_namespace__().concat([x[..., i * n : (i + 1) * n] for i in order], axis=-1)


def _flax_cell(layer: Any, given: _Given) -> dict[str, Any]:
    """A product for each gate: ii, if, ig, io, hi, … of an LSTM, ir, …, hn of a GRU; or, Haiku's LSTM, one of all: linear."""
    mode, arrays = _mode(layer), given.arrays
    if mode == "LSTM" and set(arrays) == {"linear.w", "linear.b"}:
        kernel, bias = (_gates(arrays[f"linear.{role}"], (0, 2, 1, 3)) for role in "wb")
        n = layer.hidden_size
        made = {
            "weight_ih": kernel[:-n, :].T,
            "weight_hh": kernel[-n:, :].T,
            "bias_ih": bias,
            "bias_hh": bias * 0,
        }
        made["bias_hh"][n : 2 * n] = 1  # which Haiku adds for the forget gate
        return made
    made = {}
    for side in "ih":
        names = [side + gate if mode != "RNN" else side for gate in _GATES[mode]]
        for role, name in (("kernel", "weight"), ("bias", "bias")):
            got = [arrays.get(f"{n}.{role}") for n in names]
            if all(x is None for x in got) and role == "kernel":
                raise ValueError(f"it must have {', '.join(names)}, got {', '.join(arrays)}")
            some = next((x for x in got if x is not None), arrays[f"{names[0]}.kernel"][0] * 0)
            whole = [some * 0 if x is None else x for x in got]
            made[f"{name}_{side}h"] = some.__array_namespace__().concat(whole, axis=-1).T
    known = {
        f"{s}{g}.{r}"
        for s in "ih"
        for g in ("" if mode == "RNN" else _GATES[mode], *_GATES[mode])
        for r in ("kernel", "bias")
    }
    return made | {name: x for name, x in arrays.items() if name not in known}


_NORMS = {
    "batch": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "layer": (nn.LayerNorm,), "group": (nn.GroupNorm, nn.InstanceNorm2d),
    "rms": (nn.RMSNorm,),
}  # fmt: skip
_ROWS: tuple[tuple[tuple[type[Module], ...], str, Callable[[Any, _Given], dict[str, Any]]], ...] = (
    ((nn.Linear,), "(einsum_)?dense", _linear),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), r"conv\dd_transpose", _conv_transpose),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), r"(depthwise_|separable_)?conv\dd", _conv),
    *((classes, f"{name}_normalization", _norm) for name, classes in _NORMS.items()),
    ((nn.Embedding,), "embedding", _embedding),
    ((nn.PReLU,), "p_re_lu", _prelu),
    ((nn.MultiheadAttention,), "multi_head_attention", _attention),
    ((nn.LSTM, nn.LSTMCell), "lstm(_cell)?|bidirectional", _recurrent),
    ((nn.GRU, nn.GRUCell), "gru(_cell)?|bidirectional", _recurrent),
    ((nn.RNN, nn.RNNCell), "simple_rnn(_cell)?|bidirectional", _recurrent),
)
"""The layers that a row is for, what Keras calls theirs, and the row."""


# ----- a whole network -----


def adapt(
    model: Module,
    arrays: Mapping[str, Any],
    layers: Sequence[Layer] | None,
    *,
    ordered: bool,
    keras: bool,
    turned: bool,
) -> tuple[dict[str, Any], list[str]]:
    """The arrays as a state dict of the model, and which of its matrices were reordered since channels were last.

    Parameters:
      arrays: by the name of a layer and their role in it; what is not of a layer here keeps its name and its layout.
      layers: of Keras; in their order if `ordered`, else in that of each class. Without them, and where their names are those of layers
        here, arrays go by name.
      turned: whether the model flattens places with channels first.

    `StateError` for a layer that does not fit.
    """
    rows = dict(_rows(model))
    if layers is not None:  # of some all may have been left out
        there = {
            ".".join(words[:n])
            for words in (k.split(".") for k in arrays)
            for n in range(1, min(len(words), 64))
        }
        layers = [layer for layer in layers if layer.name in there]
    known = {layer.name: layer for layer in layers or ()}
    if layers is None or all(layer.name in rows for layer in layers):
        place = {name: name for name in arrays}
    else:
        place, known = _in_order(model, rows, arrays, layers, ordered)
    made = {new: arrays[name] for name, new in place.items()}
    state, reordered, channels = dict[str, Any](), list[str](), 0
    for name, (layer, row) in rows.items():
        begin = f"{name}." if name else ""
        own = {k.removeprefix(begin): made.pop(k) for k in list(made) if k.startswith(begin)}
        direct = {k: own.pop(k) for k in list(own) if k in dict(layer.named_parameters()) and k != "bias"}
        state |= {begin + k: x for k, x in direct.items()}
        config = {**known[name].config, "keras": True} if name in known else {"keras": keras}
        if own:
            given = _Given(own, config, config.get("flattened", channels) if turned else 0)
            try:
                found = row(layer, given)
            except (ValueError, TypeError, LookupError, IndexError) as error:
                said = f"{type(error).__name__}: " if not isinstance(error, ValueError) else ""
                of = f" (of {known[name].name})" if name in known and known[name].name != name else ""
                msg = f"load_weights: {name or 'the model'} is a {type(layer).__name__}{of}: {said}{error}; nothing was changed"
                raise StateError(msg) from None
            state |= {begin + k: x for k, x in found.items() if x is not None}
            reordered += [f"{begin}weight"] * given.reordered
        channels = 0 if config.get("data_format") == "channels_first" else _channels(layer, channels)
    return state | made, reordered


def _channels(layer: Any, before: int) -> int:
    """How many channels there are behind a layer, where it has places; 0 where it has none."""
    if hasattr(layer, "out_channels"):
        return int(layer.out_channels)
    if before and any(isinstance(layer, classes) for classes in _NORMS.values()):
        return int(layer.weight.shape[-1]) if layer.weight is not None else before
    return before if isinstance(layer, nn.PReLU) else 0


def _rows(model: Module) -> Iterator[tuple[str, tuple[Module, Callable[[Any, _Given], dict[str, Any]]]]]:
    """The layers of a model that have a row, but for those within another one of them."""
    within = "\0"
    for name, layer in model.named_modules():
        row = next((row for classes, _, row in _ROWS if isinstance(layer, classes)), None)
        if row is not None and not name.startswith(within) and any(True for _ in layer.parameters()):
            within = f"{name}." if name else ""
            yield name, (layer, row)


def _in_order(
    model: Module, rows: Mapping[str, tuple[Module, Any]], arrays: Mapping[str, Any], layers: Sequence[Layer], ordered: bool
) -> tuple[dict[str, str], dict[str, Layer]]:  # fmt: skip
    """The new name of each array, and the layer of each layer here."""
    unknown = next((layer.name for layer in layers if not ordered and not is_known(layer.kind)), None)
    if unknown is not None:
        msg = f"load_weights: the file does not say the class and order of its layer {unknown!r:.80}; nothing was changed. "
        msg += "A .keras file does, or rename= says which goes where"
        raise StateError(msg)
    left, place, known = list(layers), {name: name for name in arrays}, dict[str, Layer]()
    for name, (module, _) in rows.items():
        for level in range(getattr(module, "num_layers", 1)):
            at = next((i for i, layer in enumerate(left) if ordered or _fits(layer, module)), None)
            if at is None:
                continue
            layer = left.pop(at)
            if not _fits(layer, module):
                msg = f"load_weights: {layer.name} of the file ({layer.kind}) does not fit {name or 'the model'} "
                msg += f"({type(module).__name__}), "
                msg += "which has the same place in the order of layers; nothing was changed. rename= says which goes where"
                raise StateError(msg)
            begin = f"{name}." if name else ""
            begin += f"l{level}." if hasattr(module, "num_layers") else ""
            known[name] = layer
            place |= {k: begin + k[len(layer.name) + 1 :] for k in arrays if k.startswith(f"{layer.name}.")}
    return place, known


def is_known(kind: str) -> bool:
    """Whether a class of Keras, by its name in files, has a row."""
    return any(re.fullmatch(pattern, kind) for _, pattern, _ in _ROWS)


def _fits(layer: Layer, module: Module) -> bool:
    """Whether the class of a layer is of the module's kind, or is not known."""
    patterns = [pattern for classes, pattern, _ in _ROWS if isinstance(module, classes)]
    if layer.kind == "bidirectional" and not getattr(module, "bidirectional", False):
        return False
    return not is_known(layer.kind) or any(re.fullmatch(p, layer.kind) for p in patterns)
