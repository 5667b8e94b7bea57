"""The pages of the reference: one for each file of a public module, made from the docstrings and the equations."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from anynet import equations
from ci.site.docstrings import escaped, first_sentence, inline, to_rst

__all__ = ["write_reference"]

MODULES = {
    "anynet": "Arrays and their functions",
    "anynet.linalg": "Linear algebra",
    "anynet.fft": "Fourier transforms",
    "anynet.special": "Special functions",
    "anynet.cuda": "CUDA devices",
    "anynet.random": "Random numbers",
    "anynet.nn": "Layers",
    "anynet.nn.functional": "Layers as functions",
    "anynet.nn.init": "Initial values",
    "anynet.nn.utils": "Tools for modules",
    "anynet.losses": "Losses by name",
    "anynet.optim": "Optimizers",
    "anynet.optim.lr_scheduler": "Schedules of the learning rate",
    "anynet.data": "Data",
    "anynet.data.transforms": "Transforms of pictures",
    "anynet.models": "Networks by name",
    "anynet.metrics": "Metrics",
    "anynet.train": "Training",
    "anynet.runs": "Runs",
    "anynet.distributed": "Several processes",
    "anynet.distributions": "Distributions",
    "anynet.methods": "Methods",
    "anynet.sklearn": "Estimators of scikit-learn",
    "anynet.export": "Export",
    "anynet.viz": "Figures",
    "anynet.reports": "Reports",
    "anynet.equations": "Equations",
    "anynet.explanations": "Explanations",
    "anynet.testing": "Checks for authors",
    "anynet.gallery": "What examples stand on",
}
"""The public modules in the order of the pages; those that there are not yet are left out."""

_ONE_PAGE = 60  # so many names are described on the page of their module


def _modules() -> Iterator[tuple[str, str, ModuleType]]:
    for name, title in MODULES.items():
        try:
            yield name, title, importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:  # an extra that is not installed
                raise


def _public(module: ModuleType) -> dict[str, Any]:
    """The public classes, functions and values of a module."""
    names = list(getattr(module, "__all__", ()))
    if not names or "__dir__" in vars(
        module
    ):  # it says of itself which names there are: some are imported when they are asked for
        names += [n for n in dir(module) if n not in names]
    found = {}
    for name in names:
        value = getattr(module, name, None)
        if inspect.ismodule(value) or value is None or name.startswith("_"):
            continue
        found[name] = value
    return found


class _Reference:
    """Where each public name is described: once, at the first module that has it."""

    def __init__(self) -> None:
        self.homes: dict[int, str] = {}
        self.short: dict[str, str] = {}
        self.modules = [(n, t, m, _public(m)) for n, t, m in _modules()]
        every = [(n, self._depth(n), names) for n, _, _, names in self.modules]
        for module, _, names in sorted(every, key=lambda x: -x[1]):  # the longest name of a module is its own
            for name, value in names.items():
                if callable(value):
                    self.homes.setdefault(id(value), f"{module}.{name}")
        for module, _, _, names in self.modules:
            for name, value in names.items():
                full = self.homes.get(id(value), f"{module}.{name}")
                self.short.setdefault(name, full)
                self.short[f"{module}.{name}".removeprefix("anynet.")] = full
                self.short[f"{module}.{name}"] = full

    @staticmethod
    def _depth(module: str) -> int:
        return module.count(".")

    def link(self, name: str) -> str | None:
        """The full name of a public object."""
        return self.short.get(name.removesuffix("()").removeprefix("an."))


def _signature(value: Any) -> str:
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "()" if callable(value) else ""
    plain = [p.replace(annotation=p.empty) for p in found.parameters.values() if p.name != "self"]
    text = str(found.replace(parameters=plain, return_annotation=found.empty))
    return text if len(text) < 600 and "<" not in text else "(…)"


def _equation(value: Any) -> list[str]:
    """The object's equation as MathML, and what its symbols are; nothing where it has none."""
    try:
        found = equations.of(value)
    except (TypeError, equations.NoEquationError):
        return []
    lines = [".. raw:: html", "", *("    " + line for line in found.mathml().splitlines()), ""]
    symbols = [(name, said) for name, said in found.where() if said]
    where = "; ".join(f"{escaped(name)}: {escaped(said)}" for name, said in symbols)
    return [*lines, *([f"Where {where}.", ""] if where else [])]


def _described(full: str, value: Any, reference: _Reference) -> list[str]:
    """A class, function or value as a directive."""
    text = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
    else:
        kind = "function" if callable(value) else "data"
    if kind == "data":
        return [f".. py:data:: {full}", ""]
    lines = [
        f".. py:{kind}:: {full}{_signature(value)}",
        "   :no-index-entry:" if full.count(".") > 9 else "",
        "",
    ]
    lines = [line for i, line in enumerate(lines) if line or i == 2]
    lines += ["   " + line if line else "" for line in (*_equation(value), *to_rst(text, reference.link))]
    if kind == "class":
        for name, method in vars(value).items():
            if name.startswith("_") or not (
                inspect.isfunction(method) or isinstance(method, (classmethod, staticmethod, property))
            ):
                continue
            own = inspect.getdoc(getattr(value, name)) or ""
            if not own or name == "forward":
                continue
            if isinstance(method, property):
                lines += ["", f"   .. py:property:: {name}", ""]
            else:
                lines += ["", f"   .. py:method:: {name}{_signature(getattr(value, name))}", ""]
            lines += ["      " + line if line else "" for line in to_rst(own, reference.link)]
    return [*lines, ""]


def _file_of(value: Any, module: str) -> str:
    """The last part of the file that an object is defined in: "activation" of anynet.nn.activation."""
    where = getattr(value, "__module__", "") or module
    last = where.rsplit(".", 1)[-1].strip("_")
    return last if where.startswith("anynet") else module.rsplit(".", 1)[-1]


def _families(
    reference: _Reference, module: str, names: dict[str, Any]
) -> tuple[dict[str, list[str]], list[list[str]]]:
    """The names that are at home in a module, by the file that they are defined in; and those that are not, with their homes."""
    families: dict[str, list[str]] = {}
    elsewhere = []
    for name, value in names.items():
        home = reference.homes.get(id(value), f"{module}.{name}")
        if home == f"{module}.{name}":
            families.setdefault(_file_of(value, module) if callable(value) else "values", []).append(name)
        else:
            elsewhere.append([name, home])
    return dict(sorted(families.items())), elsewhere


def _listed(module: str, members: list[str], names: dict[str, Any]) -> list[str]:
    """A line for each name: what it is, in a sentence."""
    lines = []
    for name in members:
        said = first_sentence(inspect.getdoc(names[name]) or "") if callable(names[name]) else ""
        lines.append(f"* :py:obj:`{name} <{module}.{name}>`" + (f": {inline(said)}" if said else ""))
    return [*lines, ""]


def write_reference(folder: Path) -> None:
    """Write index.rst and the pages of the modules into `folder`; a module with many names has a page for each of its files."""
    reference = _Reference()
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for module, title, _, names in reference.modules:
        families, elsewhere = _families(reference, module, names)
        page = [f"{module}: {title}", "=" * (len(module) + len(title) + 2), ""]
        page += to_rst(inspect.getdoc(importlib.import_module(module)) or "", reference.link)
        split = sum(map(len, families.values())) > _ONE_PAGE
        inner = []
        for family, members in families.items():
            described = [
                line for name in members for line in _described(f"{module}.{name}", names[name], reference)
            ]
            page += [escaped(family), "-" * (len(family) + 8), ""]
            if split:
                stem = f"{module}.{family}"
                page += [*_listed(module, members, names)]
                head = [f"{module}: {escaped(family)}", "=" * (len(stem) + 10), ""]
                (folder / f"{stem}.rst").write_text("\n".join([*head, *described]), encoding="utf-8")
                inner.append(stem)
            else:
                page += described
        if elsewhere:
            page += ["Elsewhere", "---------", "", "Also here, described where they are at home:", ""]
            page += [f"* :py:obj:`{name} <{home}>`" for name, home in elsewhere] + [""]
        page += [".. toctree::", "   :hidden:", "", *(f"   {stem}" for stem in inner), ""] if inner else []
        (folder / f"{module}.rst").write_text("\n".join(page), encoding="utf-8")
        pages.append(module)
    index = [
        "Reference",
        "=========",
        "",
        ".. toctree::",
        "   :maxdepth: 1",
        "",
        *(f"   {p}" for p in pages),
        "",
    ]
    (folder / "index.rst").write_text("\n".join(index), encoding="utf-8")
