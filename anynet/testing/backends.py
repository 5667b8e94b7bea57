"""`check_backend`: whether a backend does all that anynet asks of an array library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anynet.testing.cases import Case, every
from anynet.testing.comparing import dtypes_of
from anynet.testing.parity import compare
from anynet.testing.report import NotApplicable, Report
from anynet_backends import registry
from anynet_backends.conformance import CHECKS

__all__ = ["check_backend"]


def check_backend(
    backend: str,
    *,
    devices: Sequence[str] | None = None,
    cases: Iterable[Case] | None = None,
    raise_exception: bool = True,
) -> Report:
    """Check a backend: the protocol, then every operation, layer and optimizer of anynet on it against NumPy.

    - The checks of `anynet_backends.conformance`: names and dtypes of the standard, devices, transfer to and from the host,
      random bits, the functions that the standard lacks.
    - Each case of `anynet.testing.cases`, in float64 (where the device has it) and float32: dtype and device of values and
      gradients, and how far they are from NumPy's in float64: 1e-10 in float64; 1e-5 for values and 1e-4 for gradients in
      float32, relative to their norms.

    Parameters
    ----------
    backend: its name, such as "numpy", "torch" or that of an entry point in the group ``anynet.backends``.
    devices: which of its devices to check, all that it lists by default.
    cases: which cases to run, all by default (a few hundred, in less than a minute on NumPy).
    raise_exception: with False, failures are only in the report.

    Errors: `CheckError` with the table of all checks where one failed; what `anynet_backends.get_backend` raises where there is
    no such backend.

    >>> from anynet.testing import check_backend
    >>> from anynet.testing.cases import every
    >>> report = check_backend("numpy", cases=[case for case in every() if case.name in ("add", "conv2d", "Adam")])
    >>> report.ok, len(report.checks)
    (True, 15)
    """
    xp = registry.get_backend(backend)
    report = Report(f"backend {backend!r}")
    chosen = every() if cases is None else tuple(cases)
    for device in xp.devices() if devices is None else devices:
        for name, protocol_check in CHECKS.items():
            with report.check(f"{device}: protocol: {name}"):
                protocol_check(xp, device)
        dtypes = dtypes_of(device)
        for case in chosen:
            for dtype in ("float64", "float32"):
                with report.check(f"{device}: {case.name}, {dtype}"):
                    if dtype not in dtypes:
                        reason = f"the device has no {dtype}"
                        raise NotApplicable(reason)
                    row = compare(case, device, dtype)
                    assert row.ok, (
                        f"the value differs by {row.value:.2g} of its norm, a gradient by {row.gradient:.2g}"
                    )
    return report.finish(raise_exception)
