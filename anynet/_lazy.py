"""Names of a package that are imported when they are first asked for, so that ``import anynet`` stays quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from anynet_backends.concurrency import late_import

__all__ = ["lazily"]


def lazily(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package. `names` says where each name is: "module" for a module, "module:name" else.

    What has been imported becomes an attribute; AttributeError for a name that is not in the table.
    """

    def getattribute(name: str) -> object:
        if name not in names:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module, _, attribute = names[name].partition(":")
        found: object = late_import(module)
        if attribute:
            found = getattr(found, attribute)
        setattr(sys.modules[package], name, found)
        return found

    def listing() -> list[str]:
        here = vars(sys.modules[package])
        public = here.get("__all__", here)  # without the modules that the names are from
        return sorted({*(n for n in here if n in public or n.startswith("__")), *names})

    return getattribute, listing
