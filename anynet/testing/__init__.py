"""Checks for authors of layers, optimizers and backends.

`check_module(module, *inputs)`, `check_optimizer(make)` and `check_backend(name)` each run a series of checks and return a
`Report`, or raise `CheckError` with a table that says what failed and by how much. anynet's own tests use them, and the cases in
`anynet.testing.cases`. The package is not imported with `anynet`.

>>> import anynet as an
>>> from anynet.testing import check_module
>>> check_module(an.nn.Linear(3, 2), an.ones((4, 3)), devices=["cpu"]).ok
True
"""

from anynet.testing.backends import check_backend
from anynet.testing.modules import check_module
from anynet.testing.optimizers import check_optimizer
from anynet.testing.report import Check, CheckError, Report

__all__ = ["Check", "CheckError", "Report", "check_backend", "check_module", "check_optimizer"]
