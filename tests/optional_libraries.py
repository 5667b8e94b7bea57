"""Optional libraries in tests: `Image = needs("PIL.Image", "images")` at the head of a file, or in a test.

Where one is not installed, the test (or the file) is skipped with a reason that a lane of CI can allow by name.
"""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["needs"]


def needs(module: str, extra: str) -> Any:
    """The module; skips where it is not installed."""
    return pytest.importorskip(module, reason=f"needs {module.split('.')[0]} of the extra {extra}")
