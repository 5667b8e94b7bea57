"""PyTorch's files of weights: read without PyTorch, and hostile ones refused without running anything."""

import contextlib
import io
import os
import pickle
import random as python_random
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import anynet as an
import anynet.torch as ours
from anynet_backends import torch_files
from anynet_backends.torch_files import TorchFileError

theirs = pytest.importorskip("torch")


def state():
    base = theirs.arange(24.0).view(4, 6)
    net = theirs.nn.Sequential(theirs.nn.Linear(3, 2), theirs.nn.BatchNorm1d(2))
    return {
        "net": net.state_dict(),
        "parameter": theirs.nn.Parameter(theirs.ones(2)),
        "views": [base, base[1:3, ::2], base.t(), theirs.tensor(3.5), theirs.zeros(0, 2)],
        "kinds": {
            str(k): theirs.ones(3).to(k)
            for k in (
                theirs.float64,
                theirs.float16,
                theirs.bfloat16,
                theirs.int8,
                theirs.bool,
                theirs.complex64,
            )
        },
        "rest": (1, 2.5, "text", None, True, [1 << 70, -3], {"lr": 0.1}),
        0: theirs.float32,
    }


def compare(found, expected):
    if isinstance(expected, theirs.Tensor):
        assert isinstance(found, ours.Tensor)
        assert tuple(found.shape) == tuple(expected.shape)
        wide = expected.detach().float() if expected.dtype is theirs.bfloat16 else expected.detach()
        assert str(wide.dtype) == f"torch.{found.dtype}"
        np.testing.assert_array_equal(found.numpy(), wide.numpy())
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            compare(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        for a, b in zip(found, expected, strict=True):
            compare(a, b)
    elif isinstance(expected, theirs.dtype):
        assert f"torch.{found}" == str(expected)
    else:
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_pytorch_writes(tmp_path, zipped):
    expected = state()
    theirs.save(expected, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    compare(ours.load(tmp_path / "x.pt"), expected)
    net = ours.nn.Sequential(ours.nn.Linear(3, 2), ours.nn.BatchNorm1d(2))
    net.load_state_dict(ours.load(tmp_path / "x.pt")["net"])
    np.testing.assert_array_equal(net[0].weight.detach().numpy(), expected["net"]["0.weight"].numpy())


def test_states_of_optimizers_come_over(tmp_path):
    net = theirs.nn.Linear(2, 1)
    optimizer = theirs.optim.Adam(net.parameters())
    net(theirs.ones(1, 2)).sum().backward()
    optimizer.step()
    theirs.save({"optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    compare(ours.load(tmp_path / "x.pth")["optimizer"], optimizer.state_dict())


def test_what_is_written_is_read(tmp_path):
    net = ours.nn.Linear(2, 3)
    checkpoint = {
        "model": net.state_dict(),
        "step": 3,
        "best": ours.tensor(0.5),
        "betas": (0.9, 0.99),
        7: [1.5],
    }
    ours.save(checkpoint, tmp_path / "ckpt.pt")
    found = ours.load(tmp_path / "ckpt.pt", map_location="cpu")
    assert found["step"] == 3
    assert found["betas"] == (0.9, 0.99)
    assert found["best"].view(1).tolist() == [0.5]
    net.load_state_dict(found["model"])
    ours.save(ours.ones(2), tmp_path / "one.pt")
    assert ours.load(tmp_path / "one.pt").tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match=r"save its data: torch\.save"):
        ours.save(ours.optim.SGD(net.parameters(), lr=0.1), tmp_path / "net.pt")
    assert sorted(os.listdir(tmp_path)) == ["ckpt.pt", "one.pt"]


class Runs:
    def __reduce__(self):
        return os.mkdir, (os.environ["ANYNET_TEST_TRAP"],)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_run(tmp_path, monkeypatch, zipped):
    monkeypatch.setenv("ANYNET_TEST_TRAP", str(tmp_path / "sprung"))
    theirs.save(
        {"w": theirs.ones(1), "trap": Runs()}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(TorchFileError, match=r"names (posix|nt)\.mkdir, which is no data and is not run"):
        ours.load(tmp_path / "x.pt")
    theirs.save(theirs.nn.Linear(1, 1), tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TorchFileError, match=r"names torch\.nn\.modules\.linear\.Linear"):
        ours.load(tmp_path / "net.pt", weights_only=False)
    assert not (tmp_path / "sprung").exists()


def archive(path, program, storages=(), compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compress) as file:
        file.writestr("x/data.pkl", program)
        for key, data in storages:
            file.writestr(f"x/data/{key}", data)
    return path


def tensor_program(shape, stride, offset=0, length=4, kind="FloatStorage"):
    """A pickle of one tensor over storage 0."""
    out = io.BytesIO()
    out.write(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
        + kind.encode()
        + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    for value in (length,):
        out.write(b"J" + struct.pack("<i", value))
    out.write(b"tQJ" + struct.pack("<i", offset))
    for values in (shape, stride):
        out.write(b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", v) for v in values) + b"t")
    out.write(b"\x89ccollections\nOrderedDict\n)RtR.")
    return out.getvalue()


DATA = ("0", np.arange(4, dtype="<f4").tobytes())


def test_the_programs_of_these_tests_are_sound(tmp_path):
    assert ours.load(archive(tmp_path / "x.pt", tensor_program((2, 2), (2, 1)), [DATA])).tolist() == [
        [0.0, 1.0],
        [2.0, 3.0],
    ]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (tensor_program((1 << 40,), (0,)), "is larger than its storage"),
        (tensor_program((1 << 40, 1 << 40), (1, 1)), "is larger than its storage"),
        (tensor_program((4,), (1,), offset=1), "is larger than its storage"),
        (tensor_program((2,), (-1,), offset=3), "has steps"),
        (tensor_program((4,), (1,), length=1 << 30), "has 16 bytes"),
        (tensor_program((4,), (1,), length=-1), "has 16 bytes"),
        (tensor_program((4,), (1,), kind="NoneStorage"), "unknown type"),
        (b"\x80\x02r\xff\xff\xff\xff.", "damaged"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "ends in the middle"),
        (b"\x80\x02\x8e" + struct.pack("<Q", 1 << 60) + b".", "the instruction"),
        (b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.", r"names builtins\.eval"),
        (b"\x80\x02(i__main__\nf\n.", "the instruction"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"names os\.system"),
        (b"\x80\x02\x82\x01.", "the instruction"),
        (b"\x80\x02}(K\x01K\x02e.", "elements for what is no list"),
        (b"", "ends in the middle"),
    ],
)
def test_hostile_programs_are_refused(tmp_path, program, message):
    with pytest.raises(TorchFileError, match=message):
        ours.load(archive(tmp_path / "x.pt", program, [DATA]))


def doubled(times=60):
    """A pair of a pair of a pair …, each of which is the one before twice, and the instruction that gives the last one: to write it
    out, to compare or to hash it would take 2^60 steps."""
    pairs = b"".join(b"h" + bytes([i, ord("h"), i]) + b"\x86q" + bytes([i + 1]) for i in range(times))
    return b"\x80\x04K\x01q\x00" + pairs, b"h" + bytes([times])


PAIR, TOP = doubled()
STORAGE = b"(X\x07\x00\x00\x00storage%sX\x03\x00\x00\x00cpuK\x01tQ."
LONG = b"](" + b"K\x01" * 3000 + b"eq\x00"
ITEMS = b"](" + b"K\x01K\x02\x86" * 3000 + b"eq\x00"
SHARED = tensor_program((4,), (1,))[:-1]
GROWING = {
    "a device": (PAIR + b"ctorch\ndevice\n" + TOP + b"\x85R.", "a name is a tuple"),
    "a storage's name": (PAIR + STORAGE % (b"ctorch\nFloatStorage\n" + TOP), "a name is a tuple"),
    "a storage's type": (PAIR + STORAGE % (TOP + b"X\x01\x00\x00\x000"), "of an unknown type, tuple"),
    "a function": (PAIR + b"X\x05\x00\x00\x00torch" + TOP + b"\x93.", "a name is a tuple"),
    "a key": (PAIR + b"}" + TOP + b"K\x01s.", "neither text nor number: tuple"),
    "sizes": (b"\x80\x02" + LONG + b"](" + b"ctorch\nSize\nh\x00\x85R" * 3000 + b"e.", "more than 8,388,608 objects"),
    "dicts": (b"\x80\x02" + ITEMS + b"](" + b"ccollections\nOrderedDict\nh\x00\x85R" * 3000 + b"e.", "more than 8,388,608 objects"),
    "long pairs": (b"\x80\x02" + LONG + b"ccollections\nOrderedDict\n](h\x00h\x00e\x85R.", "no pairs"),
    "tensors of one storage": (b"\x80\x02](" + (SHARED[2:]) * 9000 + b"e.", "more than 32 times its size"),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_is_not_written_out(tmp_path, name):
    program, message = GROWING[name]
    data = ("0", bytes(1 << 20)) if "storage" in name else DATA
    if name == "tensors of one storage":  # each has all numbers of it
        program = program.replace(SHARED[2:], tensor_program((1 << 18,), (1,), length=1 << 18)[2:-1])
    with pytest.raises(TorchFileError, match=message):
        ours.load(archive(tmp_path / "x.pt", program, [data]))


def test_a_huge_file_is_not_read(tmp_path):
    """2^36 bytes, of which the disk has few."""
    path = tmp_path / "x.pt"
    with path.open("wb") as file:
        file.write(b"\x80\x02\x8a\x0a")
        file.truncate(1 << 36)
    with pytest.raises(TorchFileError, match="it has the instruction"):
        torch_files.read(path, lambda array, requires_grad: array)


def test_archives_that_grow_are_refused(tmp_path):
    with pytest.raises(TorchFileError, match="is compressed"):
        ours.load(archive(tmp_path / "x.pt", pickle.dumps({}), [("0", bytes(1 << 20))], zipfile.ZIP_DEFLATED))
    good = archive(tmp_path / "y.pt", tensor_program((4,), (1,))).read_bytes()
    with pytest.raises(TorchFileError, match="damaged"):  # a storage that is not there
        ours.load(tmp_path / "y.pt")
    (tmp_path / "z.pt").write_bytes(good[: len(good) // 2])
    with pytest.raises((TorchFileError, ValueError)):
        ours.load(tmp_path / "z.pt")


def test_damaged_files_raise_and_nothing_else(tmp_path):
    draw = python_random.Random(0)
    for zipped in (True, False):
        theirs.save(
            OrderedDict(w=theirs.ones(3, 2), b=theirs.zeros(2)),
            tmp_path / "x.pt",
            _use_new_zipfile_serialization=zipped,
        )
        whole = (tmp_path / "x.pt").read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            (tmp_path / "y.pt").write_bytes(data)
            with contextlib.suppress(ValueError):
                ours.load(tmp_path / "y.pt")


def test_a_whole_module_is_pickled_and_not_loaded(tmp_path):
    net = ours.nn.Sequential(ours.nn.Linear(2, 3), ours.nn.ReLU())
    ours.save(net, tmp_path / "net.pt")
    back = pickle.loads((tmp_path / "net.pt").read_bytes())
    assert ours.equal(back(ours.ones(1, 2)), net(ours.ones(1, 2)))
    opened = io.BytesIO()
    ours.save(net, opened)
    assert opened.getvalue() == (tmp_path / "net.pt").read_bytes()
    for weights_only in (True, False):
        with pytest.raises(ValueError, match="runs nothing from a file"):
            ours.load(tmp_path / "net.pt", weights_only=weights_only)
    with pytest.raises(TypeError, match="save its data"):
        ours.save(ours.optim.SGD(net.parameters(), lr=0.1), tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_a_file_is_whole_but_not_waited_for(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    file = tmp_path / "weights.pt"
    ours.save({"w": ours.ones(3)}, file)
    ours.save(ours.nn.Linear(2, 2), tmp_path / "net.pt")
    assert not synced
    with pytest.raises(TypeError):
        ours.save({"w": object()}, file)
    assert ours.load(file)["w"].tolist() == [1.0, 1.0, 1.0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pt", "weights.pt"]
    an.save(tmp_path / "own.safetensors", {"w": an.ones(3)})
    assert synced
