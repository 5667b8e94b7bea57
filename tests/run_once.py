"""Tests that one run of the check need not repeat: those that passed where optional libraries are missing, and asked for none.

ANYNET_PASSED_TO=FILE in the lane without the libraries writes the names of such tests, ANYNET_PASSED_IN=FILE in the lane with them
leaves those out. A test has asked where it, or the collection of its file, looked for a module that is not there, or started
another process, which may have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

__all__ = ["register"]

_PROCESSES = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}


def register(config: pytest.Config) -> None:
    """Add what the two variables ask for; processes of tests are not asked."""
    if path := os.environ.pop("ANYNET_PASSED_TO", None):
        config.pluginmanager.register(_Writer(Path(path)))
    if path := os.environ.pop("ANYNET_PASSED_IN", None):
        config.pluginmanager.register(_LeaveOut(Path(path)))


class _Writer(MetaPathFinder):
    """The last finder: it is asked for the modules that no other one found."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.asked = self.failed = False
        self.files: set[Path] = set()  # of tests, whose collection asked
        sys.meta_path.append(self)
        sys.addaudithook(self._audit)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if path is None:
            self.asked = True

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _PROCESSES:
            self.asked = True

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        self.asked = False
        try:
            return (yield)
        finally:
            if self.asked:
                self.files.add(collector.path)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.asked = item.path in self.files
        self.failed = False
        done = yield
        if not (self.asked or self.failed):
            self.file.write(item.nodeid + "\n")
            self.file.flush()  # a forked child would write what is buffered a second time
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= not report.passed


class _LeaveOut:
    def __init__(self, path: Path) -> None:
        self.names = set(path.read_text(encoding="utf-8").splitlines())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out = [item for item in items if item.nodeid in self.names]
        if left_out:
            items[:] = [item for item in items if item.nodeid not in self.names]
            config.hook.pytest_deselected(items=left_out)
