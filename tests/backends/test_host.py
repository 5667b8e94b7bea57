"""Bytes, safetensors files and random numbers on the host."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from anynet_backends import host, resolve

TENSORS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 4)),
    "mask": np.array([True, False]), "half": np.array([1.5], np.float16),
    "z": np.array([1 + 2j], np.complex64),
    "bytes": np.arange(3, dtype=np.uint8), "turned": np.arange(6.0).reshape(2, 3).T,
}  # fmt: skip


def test_bytes():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(host.from_bytes(host.to_bytes(a.T), "float32", (3, 2)), a.T)
    assert host.from_bytes(host.to_bytes(a), "float32", (2, 3)).flags.writeable
    assert host.to_bytes(np.array([1], ">i4")) == b"\1\0\0\0"
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 2\) takes 16 bytes, got 24"):
        host.from_bytes(host.to_bytes(a), "float32", (2, 2))


@pytest.mark.parametrize("device", ["cpu", "strict:device1", "torch:cpu"])
def test_asarray_takes_any_array(device):
    try:
        xp, name = resolve(device)
    except RuntimeError as error:
        pytest.skip(str(error))
    x = xp.from_host(np.ones(2, np.float32), name)
    assert host.is_array(x)
    assert host.asarray(x).dtype == np.float32
    assert host.asarray([1, 2], dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match="inhomogeneous"):
        host.asarray([[1], [1, 2]])


def test_safetensors_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    host.save_safetensors(path, TENSORS, {"epoch": "3", "ü": "é"})
    tensors, metadata = host.load_safetensors(path)
    assert metadata == {"epoch": "3", "ü": "é"}
    assert set(tensors) == set(TENSORS)
    for name, expected in TENSORS.items():
        assert tensors[name].dtype == expected.dtype, name
        assert tensors[name].shape == expected.shape, name
        assert np.array_equal(tensors[name], expected), name
        assert tensors[name].flags.writeable
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_safetensors_agree_with_the_reference(tmp_path):
    reference = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    tensors = {k: np.ascontiguousarray(v) for k, v in TENSORS.items()}
    theirs = reference.load(host.safetensors_bytes(tensors, {"a": "b"}))
    assert all(np.array_equal(theirs[k], v) for k, v in tensors.items())
    path = tmp_path / "theirs"
    path.write_bytes(reference.save(tensors, {"a": "b"}))
    ours, metadata = host.load_safetensors(path)
    assert metadata == {"a": "b"}
    assert all(np.array_equal(ours[k], v) for k, v in tensors.items())
    one = {"w": tensors["w"], "b": tensors["b"]}
    assert host.safetensors_bytes(one) == reference.save(one)


def test_safetensors_bytes_do_not_depend_on_the_order():
    turned = dict(reversed(TENSORS.items()))
    assert host.safetensors_bytes(TENSORS) == host.safetensors_bytes(turned)


def test_bfloat16_is_read_as_float32(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    bits = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "b").write_bytes(len(header).to_bytes(8, "little") + header + bits)
    x = host.load_safetensors(tmp_path / "b")[0]["x"]
    assert x.tolist() == [1.5, -2.0]
    assert x.dtype == np.float32


def _file(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def _one(**changes):
    return {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}


BROKEN = {
    "empty": b"",
    "a pickle": b"\x80\x02}q\x00X\x01\x00\x00\x00",
    "header longer than the file": _file(_one(), length=400),
    "no JSON": _file(b"{nonsense"),
    "no table": _file([1, 2]),
    "no shape": _file({"x": {"dtype": "F32"}}),
    "a number for a tensor": _file({"x": 3}),
    "negative shape": _file(_one(shape=[-1]), b"1234"),
    "unknown dtype": _file(_one(dtype="F31"), b"1234"),
    "too few bytes for the shape": _file(_one(shape=[2]), b"1234"),
    "a gap": _file(_one(data_offsets=[4, 8]), b"12345678"),
    "one byte short": _file(_one(), b"123"),
    "one byte over": _file(_one(), b"12345"),
    "metadata that are no strings": _file({"__metadata__": {"a": 1}}),
    "bool 2": _file(_one(dtype="BOOL", data_offsets=[0, 1]), b"\2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path, name):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=r"broken.safetensors: not a valid safetensors file: ."):
        host.load_safetensors(path)


def test_a_dtype_that_numpy_has_not(tmp_path):
    path = tmp_path / "eight"
    path.write_bytes(_file(_one(dtype="F8_E4M3", shape=[4]), b"1234"))
    with pytest.raises(ValueError, match="tensor 'x' has dtype F8_E4M3, which NumPy has not; known: BOOL"):
        host.load_safetensors(path)


def test_every_truncation_is_refused(tmp_path):
    whole = host.safetensors_bytes({"x": np.ones(3, np.float32)}, {"a": "b"})
    path = tmp_path / "cut"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="not a valid safetensors file"):
            host.load_safetensors(path)


def test_what_safetensors_cannot_hold():
    with pytest.raises(TypeError, match="'x' has dtype object"):
        host.safetensors_bytes({"x": np.array([object()])})
    with pytest.raises(TypeError, match="not an instance of 'str'"):
        host.safetensors_bytes({}, {"a": 3})
    with pytest.raises(ValueError, match="__metadata__"):
        host.safetensors_bytes({"__metadata__": np.ones(1)})
    with pytest.raises(TypeError, match="complex128"):
        host.safetensors_bytes({"x": np.ones(1, complex)})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    host.save_safetensors(path, {"x": np.ones(1)})
    old = path.read_bytes()

    def fail(*_):
        msg = "the disk is full"
        raise OSError(msg)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        host.save_safetensors(path, {"x": np.zeros(9)})
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a"]


# ---- random numbers ----


def test_permutation():
    order = host.permutation(1, 2, 3, 1000)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, host.permutation(1, 2, 3, 1000))
    assert not np.array_equal(order, host.permutation(1, 2, 4, 1000))
    assert host.permutation(1, 2, 3, 0).shape == (0,)


def test_uniform():
    u = host.uniform(1, 2, 3, (100, 50), -1.0, 3.0)
    assert u.shape == (100, 50)
    assert u.dtype == np.float64
    assert -1 <= u.min() < u.max() < 3
    assert abs(u.mean() - 1) < 0.06
    assert np.array_equal(host.uniform(1, 2, 3, (5,)), host.uniform(1, 2, 3, (9,))[:5])


def test_normal():
    z = host.normal(1, 2, 3, (200, 100), mean=2.0, std=3.0)
    assert z.shape == (200, 100)
    assert abs(z.mean() - 2) < 0.1
    assert abs(z.std() - 3) < 0.1
    generator = np.random.Generator(np.random.Philox(key=[1, 0], counter=[0, 3, 2, 0]))
    assert np.array_equal(host.normal(1, 2, 3, (7,)), generator.standard_normal(7))


def test_draws_do_not_disturb_each_other():
    first = host.normal(1, 2, 3, (3,))
    host.philox_words(9, 9, 9, 3)
    host.uniform(4, 4, 4, (5,))
    assert np.array_equal(host.normal(1, 2, 3, (3,)), first)
