"""The result of a series of checks: which passed, which failed and why, which do not apply."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Check", "CheckError", "NotApplicable", "Report"]


class NotApplicable(Exception):  # noqa: N818 - not an error: the check says why there is nothing to check
    """Raised inside a check that does not apply; the text says why."""


class CheckError(AssertionError):
    """Some checks failed. The text names each and says what is wrong; the attribute `report` has the others, too."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.table(report.failures))
        self.report = report


class Check(NamedTuple):
    """One check: its name, and what is wrong (None where it passed) or why it does not apply."""

    name: str
    problem: str | None = None
    skipped: str | None = None


@dataclass
class Report:
    """What was checked of a module, an optimizer or a backend.

    >>> report = Report("an example")
    >>> with report.check("arithmetic"):
    ...     assert 1 + 1 == 3, "got 2, expected 3"
    >>> report.ok, report.failures[0].problem
    (False, 'got 2, expected 3')
    """

    subject: str
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [c for c in self.checks if c.problem is not None]

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """One check: an exception inside makes it fail, with the exception's text; the next check runs in any case.

        Floating-point warnings are no failures, even where warnings are errors: checks judge the values, and libraries for linear
        algebra raise such flags for memory that they read and do not use.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                yield
        except NotApplicable as reason:
            self.checks.append(Check(name, skipped=str(reason)))
        except AssertionError as error:
            self.checks.append(Check(name, str(error) or "an assertion without a message failed"))
        except Exception as error:  # noqa: BLE001 - whatever the code under test raises is the finding
            self.checks.append(Check(name, f"{type(error).__name__}: {error}"))
        else:
            self.checks.append(Check(name))

    def finish(self, raise_exception: bool) -> Report:
        """This report; with `raise_exception`, CheckError where a check failed."""
        if raise_exception and not self.ok:
            raise CheckError(self)
        return self

    def __str__(self) -> str:
        return self.table(self.checks)

    def table(self, checks: Sequence[Check]) -> str:
        """How many checks failed, and a line for each of `checks`."""
        lines = [f"{self.subject}: {len(self.failures)} of {len(self.checks)} checks failed"]
        for name, problem, skipped in checks:
            mark, text = (
                ("FAILED", problem)
                if problem is not None
                else ("-", f"does not apply: {skipped}")
                if skipped
                else ("ok", "")
            )
            lines.append(f"  {mark:<7} {name}" + (f": {text}" if text else ""))
        return "\n".join(lines)
