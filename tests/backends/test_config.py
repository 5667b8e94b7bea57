"""Environment variables: one table, read in one place, listed by ``anynet doctor``; the cache folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import anynet
import anynet_backends
from anynet_backends import config, get_default_device, onednn
from anynet_backends.jit import availability

SWITCHES = (config.KERNELS, config.ONEDNN, config.NUMBA, config.CUBLASLT, config.MALLOC)


@pytest.mark.parametrize("variable", SWITCHES, ids=lambda v: v.name)
@pytest.mark.parametrize(
    ("text", "on"),
    [("off", False), ("OFF", False), ("0", False), ("no", False), ("on", True), ("1", True), ("", True), (None, True)],
)  # fmt: skip
def test_switches(monkeypatch, variable, text, on):
    monkeypatch.delenv(variable.name, raising=False)
    if text is not None:
        monkeypatch.setenv(variable.name, text)
    assert variable() is on


@pytest.mark.parametrize(
    ("text", "value"),
    [("", "auto"), ("AUTO", "auto"), ("on", "on"), ("1", "on"), ("off", "off"), ("0", "off")],
)
def test_cudnn_is_used_where_it_is_there_or_asked_for(monkeypatch, text, value):
    monkeypatch.setenv("ANYNET_CUDNN", text)
    assert config.CUDNN() == value
    monkeypatch.setenv("ANYNET_CUDNN", "maybe")
    with pytest.raises(ValueError, match="ANYNET_CUDNN must be auto, on or off, got 'maybe'"):
        config.CUDNN()


def test_a_switch_works_after_the_import(monkeypatch):
    monkeypatch.setenv("ANYNET_ONEDNN", "No")
    monkeypatch.setenv("ANYNET_NUMBA", "0")
    assert onednn.find() is None
    assert availability.problem() == "switched off (ANYNET_NUMBA)"


def test_paths_and_names(monkeypatch):
    monkeypatch.setenv("ANYNET_DATA", "")
    assert config.DATA() is None
    monkeypatch.setenv("ANYNET_DATA", "/some/where")
    assert config.DATA() == Path("/some/where")
    monkeypatch.setenv("ANYNET_DEVICE", "  ")
    assert get_default_device() == "cpu"
    monkeypatch.setenv("ANYNET_DEVICE", " strict ")
    assert get_default_device() == "strict"


def test_the_table_is_complete_and_nobody_else_reads_the_environment():
    known = {variable.name for variable in config.VARIABLES}
    for package in (anynet, anynet_backends):
        for path in Path(package.__file__).parent.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert set(re.findall(r"ANYNET_[A-Z]+", text)) <= known, path
            if path != Path(config.__file__):
                assert not re.search(r"environ\W.{0,20}ANYNET_", text), path


def test_the_doctor_lists_them(monkeypatch):
    from anynet.cli.commands.doctor import _variables

    monkeypatch.delenv("ANYNET_DEVICE", raising=False)
    monkeypatch.setenv("ANYNET_MALLOC", "Off")
    monkeypatch.setenv("ANYNET_KEY", "hunter2")
    words = {name: text.split() for name, text in _variables()}
    assert list(words) == [variable.name for variable in config.VARIABLES]
    assert words["ANYNET_DEVICE"][:2] == ["'cpu'", "(default)"]
    assert words["ANYNET_MALLOC"][0] == "'Off'"
    assert words["ANYNET_KEY"][0] == "set"
    assert "hunter2" not in str(words)  # a secret is not shown


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("ANYNET_CACHE", "/a/b")
    assert config.cache_folder() == Path("/a/b")
    monkeypatch.delenv("ANYNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert config.cache_folder() == Path("/c/anynet")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/someone")
    assert config.cache_folder() == Path("/home/someone/.cache/anynet")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(FileNotFoundError, match="ANYNET_CACHE"):
        config.cache_folder()
