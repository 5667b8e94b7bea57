"""Weights of Keras, Flax and Haiku give here what they gave there; files that do not fit, or are damaged, are refused.

The files are those libraries' own (`make_foreign_files.py`).
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from pathlib import Path

import fuzz_weights
import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.models import load_weights
from anynet.nn.errors import StateError
from anynet_backends.file_formats import hdf5_files, msgpack_files

FILES = zipfile.ZipFile(Path(__file__).with_name("foreign_files.zip"))
NAMES = [name for name in FILES.namelist() if not name.endswith(".npz")]


class Mean(nn.Module):
    def forward(self, x):
        return an.mean(x, axis=tuple(range(2, x.ndim)))


class First(nn.Module):
    """The first of a recurrent layer's two results."""

    def __init__(self, layer, last=False):
        self.layer, self.last = layer, last

    def forward(self, x):
        y = self.layer(x)[0]
        return y[:, -1, :] if self.last else y


class Sequences(nn.Module):
    def __init__(self, bidirectional=True):
        self.e = nn.Embedding(11, 8)
        self.a = nn.MultiheadAttention(8, 2, batch_first=True)
        self.l = nn.LSTM(8, 5, batch_first=True, bidirectional=bidirectional)
        self.g = nn.GRU(10 if bidirectional else 5, 3, batch_first=True)
        self.r = nn.RNN(3, 4, batch_first=True)
        self.o = nn.Linear(4, 2)

    def forward(self, x):
        x = self.e(x)
        x = self.a(x, x, x)[0]
        for layer in (self.l, self.g, self.r):
            x = layer(x)[0]
        return self.o(x[:, -1, :])


class Nested(nn.Module):
    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4, eps=1e-3))
        self.middle, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.middle(self.inner(x)) + x)


class Attributes(nn.Module):
    def __init__(self):
        self.zfirst, self.asecond = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.asecond(nn.functional.relu(self.zfirst(x)))


class Branches(nn.Module):
    """Two convolutions side by side; places are flattened with channels first or last."""

    def __init__(self, channels="first"):
        self.zeta, self.alpha, self.norm = (
            nn.Conv2d(2, 3, 3, padding=1),
            nn.Conv2d(2, 4, 1),
            nn.LayerNorm(7, eps=1e-3),
        )
        self.mine, self.last, self.channels = nn.Linear(112, 4), nn.Linear(4, 2), channels

    def forward(self, x):
        x = an.concat([self.zeta(x), self.alpha(x)], axis=1)
        x = self.norm(an.permute_dims(x, (0, 2, 3, 1)))
        x = an.permute_dims(x, (0, 3, 1, 2)) if self.channels == "first" else x
        return self.last(self.mine(an.reshape(x, (x.shape[0], -1))))


class Levels(nn.Module):
    def __init__(self):
        self.l = nn.LSTM(3, 4, 2, batch_first=True)
        self.g = nn.GRU(4, 3, batch_first=True, bidirectional=True)
        self.o, self.norm = nn.Linear(6, 2), nn.RMSNorm(2, eps=1e-6)

    def forward(self, x):
        return self.norm(self.o(self.g(self.l(x)[0])[0]))


NETWORKS = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4, eps=1e-3), nn.Conv2d(4, 8, 3, groups=4), nn.MaxPool2d(2),
        nn.Dropout(0.2), nn.Flatten(), nn.Linear(32, 5), nn.Tanh(), nn.LayerNorm(5, eps=1e-3), nn.Linear(5, 2),
    ),
    "separable": lambda: nn.Sequential(
        nn.Conv1d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv1d(6, 6, 3, groups=6, bias=False), nn.Conv1d(6, 5, 1), nn.BatchNorm1d(5, eps=1e-3),
        nn.PReLU(5), Mean(), nn.Linear(5, 2, bias=False),
    ),
    "volumes": lambda: nn.Sequential(nn.Conv3d(2, 3, 2, dilation=2), nn.GroupNorm(3, 3, eps=1e-3), nn.ConvTranspose3d(3, 2, 3, 2)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)),
    "sequences": Sequences, "nested": Nested, "attributes": Attributes,
    "branches": Branches, "levels": Levels, "prepared": lambda: nn.Sequential(nn.Linear(3, 2)),
    "reset_before": lambda: First(nn.GRU(3, 3, batch_first=True), last=True),
    "double": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(),
    "flax_convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4), nn.ConvTranspose2d(8, 3, 2, 2),
        nn.GroupNorm(3, 3, eps=1e-6), nn.Flatten(), nn.Linear(192, 5), nn.LayerNorm(5), nn.PReLU(), nn.Linear(5, 2),
    ),
    "flax_sequences": lambda: Sequences(bidirectional=False),
    "haiku_convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 2, 2), nn.Flatten(), nn.Linear(192, 5), nn.ReLU(),
        nn.Linear(5, 4), nn.LayerNorm(4),
    ),
    "haiku_recurrent": lambda: First(nn.LSTM(3, 5, batch_first=True)),
}  # fmt: skip
RENAME = {
    "flax_convolutions": {
        "Conv_0": "0", "BatchNorm_0": "1", "Conv_1": "3", "ConvTranspose_0": "4", "GroupNorm_0": "5", "Dense_0": "7", "LayerNorm_0": "8",
        "PReLU_0": "9", "Dense_1": "10",
    },
    "flax_sequences": {
        "Embed_0": "e", "MultiHeadDotProductAttention_0": "a", "OptimizedLSTMCell_0": "l", "GRUCell_0": "g", "SimpleCell_0": "r",
        "Dense_0": "o",
    },
    "haiku_convolutions": {
        "conv2_d.": "0.", "batch_norm.": "1.", "batch_norm/~/mean_ema.average": "1.mean", "batch_norm/~/var_ema.average": "1.var",
        "conv2_d_transpose": "2", "mlp/~/linear_0": "4", "mlp/~/linear_1": "6", "layer_norm": "7",
    },
    "haiku_recurrent": {"lstm/": "layer."},
}  # fmt: skip
REFUSED = {
    "separable.weights.h5": r"4 is a BatchNorm1d .*must have scale, bias, mean, var, got 3 arrays",
    "transposed.weights.h5": r"1 is a BatchNorm2d .*must have scale, bias, mean, var, got 3 arrays",
    "prepared.keras": r"0 is a Linear \(of layers\.normalization\): it must have kernel and bias, got 3 arrays",
    "reset_before.keras": r"layer is a GRU \(of layers\.gru\): it resets before the product",
    "reset_before.h5": r"layer is a GRU .*resets before the product",
}
"""What the file does not say, or what a layer here does otherwise."""


def stored(name, folder):
    path = folder / name
    path.write_bytes(FILES.read(name))
    return path


def example(name):
    found = np.load(io.BytesIO(FILES.read(f"{name.partition('.')[0]}.npz")))
    return found["x"], found["y"]


def is_places(x):
    return x.ndim > 3 or x.shape[1:] == (9, 3)


def result(net, x):
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if is_places(x) else x
    with an.no_grad():
        y = net.eval()(an.asarray(x)).numpy()
    return np.moveaxis(y, 1, -1) if y.ndim > 3 else y


@pytest.mark.parametrize("name", NAMES)
def test_values(name, tmp_path):
    kind = name.partition(".")[0]
    net, path = NETWORKS[kind](), stored(name, tmp_path)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    if name in REFUSED:
        with pytest.raises(StateError, match=REFUSED[name]):
            load_weights(net, path)
        for k, v in net.state_dict().items():
            np.testing.assert_array_equal(v.numpy(), before[k])
        return
    report = load_weights(net, path, rename=RENAME.get(kind))
    assert not report.missing
    assert not report.unexpected
    linear = {
        "convolutions": ["7.weight"],
        "flax_convolutions": ["7.weight"],
        "haiku_convolutions": ["4.weight"],
        "branches": ["mine.weight"],
    }
    assert report.reordered == linear.get(kind, [])
    x, y = example(name)
    np.testing.assert_allclose(
        result(net, x.astype("float32") if kind == "haiku_recurrent" else x), y, rtol=2e-6, atol=2e-6
    )
    tolerance = 1e-12 if y.dtype == np.float64 else 2e-6
    wide = NETWORKS[kind]().double()
    load_weights(wide, path, rename=RENAME.get(kind))
    np.testing.assert_allclose(
        result(wide, x.astype(np.float64) if x.dtype == np.float32 else x), y, rtol=tolerance, atol=tolerance
    )


def test_a_model_that_flattens_with_channels_last(tmp_path):
    """Then nothing is reordered."""
    net, (x, y) = Branches("last"), example("branches")
    for kind in (".keras", ".weights.h5", ".h5"):
        assert not load_weights(net, stored(f"branches{kind}", tmp_path), channels="last").reordered
        np.testing.assert_allclose(result(net, x), y, rtol=2e-6, atol=2e-6)
    with pytest.raises(ValueError, match="channels must be 'first' or 'last', got 'middle'"):
        load_weights(net, tmp_path / "branches.keras", channels="middle")


def test_a_layer_that_is_left_out(tmp_path):
    """It is none in the order of the others."""
    net = nn.Sequential(nn.Linear(3, 2))
    report = load_weights(net, stored("prepared.keras", tmp_path), rename={"layers.normalization": None})
    assert sorted(report.ignored) == [f"layers.normalization.{i}" for i in range(3)]
    assert sorted(report.loaded) == ["0.bias", "0.weight"]


def test_names_say_which_goes_where(tmp_path):
    path = stored("nested.keras", tmp_path)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 2))
    rename = {
        "layers.sequential.layers.dense": "0",
        "layers.dense_1": "1",
        "layers.sequential.layers.batch": None,
        "layers.dense.": None,
    }
    report = load_weights(net, path, rename=rename)
    assert sorted(report.ignored) == [
        "layers.dense.0",
        "layers.dense.1",
        *(f"layers.sequential.layers.batch_normalization.{i}" for i in range(4)),
    ]
    whole = Nested()
    load_weights(whole, path)
    for ours, theirs in ((net[0], whole.inner[0]), (net[1], whole.last)):
        np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.numpy())
        np.testing.assert_array_equal(ours.bias.numpy(), theirs.bias.numpy())


@pytest.mark.parametrize(
    ("name", "net", "match"),
    [
        ("double.keras", lambda: nn.Sequential(nn.Linear(3, 4), nn.Conv1d(4, 2, 1)),
         r"layers\.dense_1 of the file \(dense\) does not fit 1 \(Conv1d\)"),
        ("double.keras", lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), r"0\.weight: got shape \(4, 3\), expected \(5, 3\)"),
        ("double.keras", lambda: nn.Sequential(nn.Linear(3, 4)), r"unexpected layers\.dense_1\.0"),
        ("double.keras", lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)), r"missing 2\.weight"),
        ("double.keras", lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2)), r"unexpected 0\.bias"),
        ("transposed.keras", lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2), nn.BatchNorm2d(3, eps=1e-3), nn.Conv2d(3, 2, 1)),
         r"1 is a BatchNorm2d .*its eps must be 1e-05, as in the file, got 0\.001"),
        ("flax_convolutions.msgpack", NETWORKS["flax_convolutions"], r"no name fits: .*the weights have BatchNorm_0\.mean"),
    ],
)  # fmt: skip
def test_what_does_not_fit(name, net, match, tmp_path):
    net = net()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    with pytest.raises(StateError, match=match) as error:
        load_weights(net, stored(name, tmp_path))
    assert "nothing was changed" in str(error.value)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])


def test_another_number_of_heads_is_refused(tmp_path):
    net = Sequences()
    net.a = nn.MultiheadAttention(8, 4, batch_first=True)
    with pytest.raises(
        StateError, match=r"a is a MultiheadAttention .*its num_heads must be 2, as in the file, got 4"
    ):
        load_weights(net, stored("sequences.keras", tmp_path))


def test_several_levels_of_one_layer(tmp_path):
    """Two LSTMs of Keras are one of two levels."""
    rng = np.random.default_rng(0)
    arrays = {f"{d}{i}.{r}": rng.normal(size=s).astype("f4") for i, n in ((0, 3), (1, 4)) for d in ("l",)
              for r, s in (("kernel", (n, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,)))}  # fmt: skip
    path = tmp_path / "levels.msgpack"
    path.write_bytes(fuzz_weights.packed({"params": arrays}))
    net = First(nn.LSTM(3, 4, 2, batch_first=True))
    load_weights(net, path, rename={"l": "layer.l"})
    for i in range(2):
        np.testing.assert_array_equal(getattr(net.layer, f"weight_ih_l{i}").numpy(), arrays[f"l{i}.kernel"].T)
        np.testing.assert_array_equal(getattr(net.layer, f"bias_ih_l{i}").numpy(), arrays[f"l{i}.bias"])
        np.testing.assert_array_equal(getattr(net.layer, f"bias_hh_l{i}").numpy(), 0)


def test_a_training_state_of_flax(tmp_path):
    """Of a TrainState the parameters and the statistics; bfloat16 becomes float32, arrays in parts are joined."""
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    half = msgpack_array(
        (3,),
        b"bfloat16",
        (np.array([1.5, -2.0, 0.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes(),
    )
    parts = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 2, "1": 3},
        "chunks": {"0": kernel.ravel()[:4], "1": kernel.ravel()[4:]},
    }
    tree = {
        "step": 3,
        "opt_state": {"0": {"mu": kernel}},
        "params": {"Dense_0": {"kernel": parts, "bias": half}},
    }
    path, net = tmp_path / "state.msgpack", nn.Sequential(nn.Linear(2, 3))
    path.write_bytes(fuzz_weights.packed(tree))
    load_weights(net, path, rename={"Dense_0": "0"})
    np.testing.assert_array_equal(net[0].weight.numpy(), kernel.T)
    np.testing.assert_array_equal(net[0].bias.numpy(), [1.5, -2.0, 0.0])


# ----- hostile files -----


def msgpack_array(shape, dtype, data):
    return fuzz_weights.Packed(fuzz_weights.array(shape, dtype, data))


MSGPACK = {
    "deep": (b"\x91" * 100_000, "nested less than 64 deep"),
    "a list that is not there": (b"\xdd\xff\xff\xff\xff", "ends before 4294967295 elements"),
    "a map that is not there": (b"\xdf\xff\xff\xff\xff", "ends before 4294967295 entries"),
    "a text that is not there": (b"\xdb\xff\xff\xff\xff", "ends before 4294967295 bytes"),
    "a function": (b"\xd4\x02\x00", "type 2, which is no array"),
    "another code": (b"\xc1", "0xc1, which msgpack has not"),
    "more than one": (b"\x80\x80", "1 bytes follow after its end"),
    "a name twice": (b"\x82\xa1a\x01\xa1a\x01", "each once, got 'a'"),
    "a number as a name": (b"\x81\x01\x01", "names must be texts"),
    "many empty lists": (b"\xdd\x00\x09\x00\x00" + b"\x90" * (9 << 16), "at most 524,288 values"),
    "a large array": (fuzz_weights.array((1 << 40,), b"float32", b"1234"), "has 4 bytes"),
    "objects": (fuzz_weights.array((1,), b"object", b"12345678"), "numbers must be"),
}


@pytest.mark.parametrize("name", MSGPACK)
def test_msgpack(name, tmp_path):
    data, match = MSGPACK[name]
    with pytest.raises(msgpack_files.MsgpackError, match=match):
        msgpack_files.read(data)
    path = tmp_path / "file.msgpack"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match):
        load_weights(nn.Linear(2, 2), path)


def changed(data, *pairs):
    for old, new in pairs:
        assert old in data
        data = data.replace(old, new, 1)
    return data


HDF5 = FILES.read("double.weights.h5")
TREE = HDF5.index(b"TREE")
SHAPE = struct.pack("<2Q", 3, 4)
HOSTILE = {
    "nothing": (b"", "it is empty|no file of HDF5"),
    "another file": (b"PK\x03\x04" * 9, "no file of HDF5"),
    "the first half": (HDF5[: len(HDF5) // 2], "lie outside of its"),
    "a size that is not there": (
        changed(HDF5, (SHAPE, struct.pack("<2Q", 1 << 40, 4))),
        "takes 17592186044416 bytes, got 48",
    ),
    "no superblock": (HDF5[:8] + b"\x09" + HDF5[9:], "version 9 of its superblock"),
    "texts": (
        changed(HDF5, (b"\x11\x20\x1f\x00\x04\x00", b"\x13\x00\x00\x00\x04\x00")),
        r"must be numbers, got \|S4",
    ),
    "a circle": (
        changed(HDF5, (HDF5[TREE : TREE + 40], HDF5[TREE : TREE + 32] + struct.pack("<Q", TREE))),
        "goes in a circle",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hdf5(name, tmp_path):
    data, match = HOSTILE[name]
    path = tmp_path / "file.weights.h5"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match):
        load_weights(NETWORKS["double"](), path)


def links(kind: bytes) -> bytes:
    """A file of HDF5 with one group, whose one link is of this kind."""
    link = b"\x01\x08" + kind + b"\x01a" + b"\x08\x00/etc/x\x00\x00"
    message = struct.pack("<BHB", 6, len(link), 0) + link
    group = b"OHDR\x02\x00" + bytes([len(message)]) + message + b"\0\0\0\0"
    return hdf5_start(48) + group


def hdf5_start(root: int) -> bytes:
    return (
        b"\x89HDF\r\n\x1a\n\x03\x08\x08\x00" + struct.pack("<4Q", 0, (1 << 64) - 1, 4096, root) + b"\0\0\0\0"
    )


@pytest.mark.parametrize("kind", [b"\x01", b"\x40"], ids=["soft", "external"])
def test_links_are_not_followed(kind):
    with pytest.raises(hdf5_files.HDF5Error, match="links to other places or files"):
        hdf5_files.open_group(links(kind))


def archive(**entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", entries.pop("how", zipfile.ZIP_STORED)) as z:
        for name, data in entries.items():
            z.writestr(name.replace("_h5", ".weights.h5").replace("_json", ".json"), data)
    return file.getvalue()


DEEP = '{"config": {"layers": [' * 40 + "]}}" * 40
ARCHIVES = {
    "no archive": (b"1234", "no archive of Keras's"),
    "an empty one": (archive(), r"has no config\.json, but nothing"),
    "without weights": (archive(config_json="{}"), r"has no model\.weights\.h5"),
    "a compressed one": (archive(how=zipfile.ZIP_DEFLATED, config_json="{}", model_h5=b"0" * 10**6), "stored as they are"),
    "no JSON": (archive(config_json="[" * 10**5, model_h5=HDF5), "nested too deep|Expecting"),
    "a list": (archive(config_json="[]", model_h5=HDF5), "must be a JSON object, got list"),
    "models in models": (archive(config_json=DEEP, model_h5=HDF5), "nested less than 32 deep"),
    "no HDF5": (archive(config_json="{}", model_h5=b"1234" * 9), "no file of HDF5"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name, tmp_path):
    data, match = ARCHIVES[name]
    path = tmp_path / "file.keras"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match):
        load_weights(NETWORKS["double"](), path)


def test_a_configuration_of_nonsense_is_no_order(tmp_path):
    """What is no list of layers is read as a file without one."""
    for config in (
        {"config": {"layers": 3}},
        {"config": None},
        {"config": {"layers": [None, {"class_name": 7}]}},
    ):
        path, net = tmp_path / "file.keras", NETWORKS["double"]()
        path.write_bytes(archive(config_json=json.dumps(config), model_h5=HDF5))
        if isinstance(config["config"], dict) and isinstance(config["config"]["layers"], list):
            with pytest.raises(StateError, match="no name fits"):
                load_weights(net, path)
        else:
            assert len(load_weights(net, path).loaded) == 4


def test_damaged_files(tmp_path):
    """A short form of `fuzz_weights.py`."""
    rng, whole, found = random.Random(0), fuzz_weights.files(), set()
    for _ in range(120):
        name, data = rng.choice(whole)
        found.add(fuzz_weights.one(name, fuzz_weights.changed(data, rng), tmp_path).partition(":")[0])
    assert found == {"read", "refused"}
