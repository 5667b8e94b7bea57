"""Files of weights of Keras (.keras, .weights.h5, .h5) and of Flax and Haiku (.msgpack): their arrays by name, and the order of layers.

Nothing in a file is run: of Keras's config.json only names, classes and numbers are read.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anynet.models.foreign.layouts import Layer, is_known
from anynet_backends.file_formats import hdf5_files, msgpack_files
from anynet_backends.file_formats.hdf5_files import Group

__all__ = ["Foreign", "read"]

_CONFIG_LIMIT = 1 << 24  # bytes of a config.json
_DEPTH = 32
# what Keras stores beside the weights: the optimizer's state, counts, seeds
_OTHERS = re.compile(
    r"(optimizer|optimizer_weights|compile_metrics|_?metrics|_?loss_tracker)(\..*)?|(.*\.)?_?seed_generator(_\d+)?(\..*)?"
)
_EMPTY = Group({}, {}, {}, {})


@dataclass
class Foreign:
    """The arrays of a file by name. `layers`: of Keras, those that have arrays; `ordered`: in their order, else in that of each class."""

    arrays: dict[str, Any]
    layers: list[Layer] | None = None
    ordered: bool = True


def read(path: Path) -> Foreign:
    """What is in a file; ValueError for what is damaged or of another kind."""
    try:
        if path.suffix == ".keras":
            return _from_archive(path)
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("it is empty")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if path.suffix == ".msgpack":
            return _from_tree(msgpack_files.read(data))
        root = hdf5_files.open_group(data)
        config = root.attributes.get("model_config")
        group = root.groups.get("model_weights", root)
        if "layer_names" in group.attributes or "layer_names0" in group.attributes:
            return _from_legacy(group, _config(config) if isinstance(config, str) else {})
        return _from_keras(root, None)
    except ValueError as error:
        raise ValueError(f"load_weights: {path}: {error}") from None


# ----- Keras -----


def _from_archive(path: Path) -> Foreign:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            if (
                any(info.compress_type != zipfile.ZIP_STORED for info in entries.values())
                or sum(info.file_size for info in entries.values()) > size
            ):
                raise ValueError("its entries must be stored as they are, as Keras does, not compressed")
            lost = [name for name in ("config.json", "model.weights.h5") if name not in entries]
            if lost:
                raise ValueError(f"it has no {lost[0]}, but {', '.join(list(entries)[:6]) or 'nothing'}")
            if entries["config.json"].file_size > _CONFIG_LIMIT:
                raise ValueError(f"its config.json must have at most {_CONFIG_LIMIT:,} bytes")
            config = _config(archive.read("config.json").decode())
            return _from_keras(hdf5_files.open_group(archive.read("model.weights.h5")), config)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of the system; a place before the beginning is the file's fault
            raise
        raise ValueError(f"it is damaged: {error}") from None
    except (zipfile.BadZipFile, struct.error, RuntimeError, EOFError, LookupError, OverflowError) as error:
        raise ValueError(
            f"it is no archive of Keras's, or damaged ({type(error).__name__}: {error!s:.100})"
        ) from None


def _config(text: str) -> Mapping[str, Any]:
    """A configuration: JSON, of which only parts are looked at."""
    if len(text) > _CONFIG_LIMIT:
        raise ValueError(f"its configuration must have at most {_CONFIG_LIMIT:,} bytes")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("its configuration is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"its configuration must be a JSON object, got {type(found).__name__}")
    return found


def _part(config: Any, name: str, kind: Any) -> Any:
    """A member of a configuration, if it is of this kind; else an empty one."""
    found = config.get(name) if isinstance(config, Mapping) else None
    return found if isinstance(found, kind) else kind()


def _snake(name: str) -> str:
    """A class as Keras calls it in files: BatchNormalization is batch_normalization."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _described(config: Any, path: str, depth: int = 0) -> Iterator[Layer]:
    """The layers of a Sequential or functional model in their order, those of models within it in its place."""
    if depth > _DEPTH:
        raise ValueError(f"its models must be nested less than {_DEPTH} deep")
    used: dict[str, int] = {}
    flattened: int | None = 0
    for layer in _part(_part(config, "config", dict), "layers", list):
        kind = _part(layer, "class_name", str)
        if kind == "InputLayer" and _part(config, "class_name", str) == "Sequential":
            continue
        name = snake = _snake(kind)
        used[snake] = used.get(snake, -1) + 1
        if used[snake]:
            name = f"{snake}_{used[snake]}"
        inside = f"{path}layers.{name}"
        options = _part(layer, "config", dict)
        if isinstance(options.get("layers"), list):
            yield from _described(layer, f"{inside}.", depth + 1)
            continue
        known = {"name": _part(options, "name", str)}
        inner = _part(options, "layer", dict)
        if kind in ("Bidirectional", "TimeDistributed") and inner:
            snake, options = _snake(_part(inner, "class_name", str)), _part(inner, "config", dict)
            inside += ".layer" * (kind == "TimeDistributed")
        if kind in ("Flatten", "Reshape"):
            shape = _part(_part(layer, "build_config", dict), "input_shape", list)
            flattened = shape[-1] if len(shape) > 2 and isinstance(shape[-1], int) and shape[-1] > 0 else None
        elif kind == "Dense":
            known |= {} if flattened is None else {"flattened": flattened}
            flattened = 0
        yield Layer(inside, snake, options | known)


def _arrays(group: Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    name = ".".join(p for p in path if p != "vars")
    for key, array in group.arrays.items():
        whole = f"{name}.{key}" if name else key
        if not _OTHERS.fullmatch(whole):
            yield whole, _number(array, group.of_arrays[key])
    for key, inner in group.groups.items():
        yield from _arrays(inner, (*path, key))


def _number(array: Any, attributes: Mapping[str, Any]) -> Any:
    if array.dtype.kind not in "biufc":
        raise ValueError(f"its arrays must be numbers, got {array.dtype}")
    if (
        attributes.get("dtype") == "bfloat16" and array.dtype.itemsize == 2
    ):  # NumPy has no such type: float32, of which it is a part
        return (array.astype("uint32") << 16).view("float32")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _from_keras(root: Group, config: Mapping[str, Any] | None) -> Foreign:
    arrays = dict(_arrays(root))
    layers = [] if config is None else list(_described(config, ""))
    return _with_arrays(arrays, layers or _numbered(root, arrays), ordered=bool(layers))


_NUMBER = re.compile(r"(\w+?)(?:_(\d+))?")


def _numbered(root: Group, arrays: Mapping[str, Any]) -> list[Layer]:
    """Layers in their order in each class, where no configuration says the whole order: layers/dense_1 is the second Dense of a
    Sequential or functional model; of others the names, which Keras counts up as layers are made, tell: dense_7 is before dense_8."""
    flat = all(re.fullmatch(r"layers\.\w+\.(?!layers\.).*", name) for name in arrays)
    found: list[tuple[int, Layer]] = []
    parents = {name.rpartition(".")[0] for name in arrays}
    groups: list[tuple[str, Group]] = [("", root)]
    for path, group in groups:  # grows while it is read
        own = group.groups.get("vars", _EMPTY).attributes.get("name")
        name = path.rpartition(".")[2]
        if not flat or name == "layer":  # of TimeDistributed
            name = own if isinstance(own, str) else ""
        match = _NUMBER.fullmatch(name)
        if match and is_known(match[1]):
            found.append((int(match[2] or 0), Layer(path, match[1])))
        elif path in parents:
            found.append((0, Layer(path, "")))
        else:
            groups += [
                (f"{path}.{key}" if path else key, g) for key, g in group.groups.items() if key != "vars"
            ]
    return [layer for _, layer in sorted(found, key=lambda pair: pair[0])]


def _with_arrays(arrays: dict[str, Any], layers: list[Layer], ordered: bool) -> Foreign:
    """Layers without arrays go; one of two kernels (SeparableConv2D) becomes two."""
    found: list[Layer] = []
    inside: dict[str, dict[str, str]] = {layer.name: {} for layer in layers}
    for key in arrays:
        words = key.split(".")
        for n in range(1, min(len(words), 64)):
            if (of := inside.get(".".join(words[:n]))) is not None:
                of[words[-1]] = key
    for layer in layers:
        own = inside[layer.name]
        if layer.kind.startswith("separable_conv") or "pointwise_kernel" in own:
            for part, roles in (("depthwise", {"0": "kernel", "depthwise_kernel": "kernel"}),
                                ("pointwise", {"1": "kernel", "pointwise_kernel": "kernel", "2": "bias", "bias": "bias"})):  # fmt: skip
                for role, key in own.items():
                    if role in roles:
                        arrays[f"{layer.name}:{part}.{roles[role]}"] = arrays.pop(key)
                found.append(Layer(f"{layer.name}:{part}", layer.kind, layer.config))
        elif own:
            found.append(layer)
    return Foreign(arrays, found, ordered)


# ----- Keras's older files -----


def _names(group: Group, name: str) -> list[str]:
    """An attribute of names, which Keras cuts into name0, name1, … where it is long."""
    found = group.attributes.get(name)
    parts = [found] if found is not None else []
    while not parts or (found is None and f"{name}{len(parts)}" in group.attributes):
        parts.append(group.attributes.get(f"{name}{len(parts)}", []))
    flat = [x for part in parts for x in (part if isinstance(part, list) else [part])]
    if not all(isinstance(x, str) for x in flat):
        raise ValueError(f"its {name} must be texts")
    return flat


_WITHIN = re.compile(r"query|key|value|attention_output|\w*_cell(_\d+)?|(forward|backward)_\w+")


def _from_legacy(group: Group, config: Mapping[str, Any]) -> Foreign:
    """Layers in their order, with arrays by path: dense_1/kernel:0, bidirectional/forward_lstm/lstm_cell/bias:0."""
    known = {str(layer.config.get("name")): layer for layer in _described(config, "")}
    arrays: dict[str, Any] = {}
    layers: dict[str, Layer] = {}
    for name in [*_names(group, "layer_names"), "top_level_model_weights"]:
        if name not in group.groups:
            continue
        inside = group.groups[name]
        for path in _names(inside, "weight_names"):
            words = path.split("/")
            role = words.pop().partition(":")[0]
            try:
                array = inside.at(path)
            except KeyError:
                raise ValueError(f"its layer {name!r:.80} lacks {path!r:.80}, which it names") from None
            below = len(words)
            while below > 1 and _WITHIN.fullmatch(words[below - 1]):
                below -= 1
            own, slot = words[below - 1] if words else name, ".".join([*words[below:], role])
            place = name if own in (name, "") or not words else f"{name}.{own}"
            if _OTHERS.fullmatch(f"{place}.{slot}"):
                continue
            described = known.get(own) or known.get(name)
            layers.setdefault(
                place, Layer(place, described.kind, described.config) if described else Layer(place)
            )
            if arrays.setdefault(f"{place}.{slot}", array) is not array:
                raise ValueError(f"it has {place}.{slot} twice")
    return _with_arrays({name: _number(x, {}) for name, x in arrays.items()}, list(layers.values()), True)


# ----- Flax and Haiku -----


def _from_tree(tree: Any) -> Foreign:
    """The leaves by their path. Of a training state the parameters and statistics alone."""
    if not isinstance(tree, Mapping):
        raise ValueError(f"it must hold a tree of arrays, got {type(tree).__name__}")
    if "opt_state" in tree and isinstance(tree.get("params"), Mapping):
        inner = tree["params"]
        tree = inner if set(inner) <= _COLLECTIONS else {k: v for k, v in tree.items() if k in _COLLECTIONS}
    arrays: dict[str, Any] = {}
    collections = [v for k, v in tree.items()] if tree and set(tree) <= _COLLECTIONS else [tree]
    for part in collections:
        for name, value in _leaves(part, ()):
            if arrays.setdefault(name, value) is not value:
                raise ValueError(f"it has {name!r:.80} twice")
    return Foreign(arrays)


_COLLECTIONS = {"params", "batch_stats"}


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, (*path, name))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _leaves(value, (*path, str(i)))
    elif hasattr(tree, "dtype"):
        yield ".".join(path), tree
    else:
        raise ValueError(f"{'.'.join(path)!r:.80} must be an array, got {type(tree).__name__}")
