"""Running an example: its flags, its data, its progress, its picture, its figures against those to reach, its record."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anynet_backends
from anynet import dtypes, random
from anynet.data import DataError, load
from anynet.gallery.figure import Figure
from anynet.gallery.picture import compose
from anynet.ops.creation import asarray
from anynet.tensor import Tensor
from anynet_backends.config import DATA

__all__ = ["UNAVAILABLE", "Example", "ExampleRun", "Unavailable", "example"]

T = TypeVar("T")
UNAVAILABLE = 69
"""The exit code of an example whose data or optional library is not here (EX_UNAVAILABLE of sysexits.h)."""


class Unavailable(Exception):
    """Data that an example needs are not here."""


class ExampleRun:
    """What the `main` of an example is given.

    Attributes: `quick` (the short form is wanted), `device` (name of the default device), `seed` (the default stream is seeded with it),
    `out` (the folder for what the example writes), `arguments` (words of the command line, where the example takes some).
    """

    def __init__(self, declared: Example, options: argparse.Namespace) -> None:
        self.name, self.quick, self.seed = declared.name, bool(options.quick), int(options.seed)
        self.device = anynet_backends.get_default_device()
        self.out = Path(options.out)
        self.arguments: list[str] = list(options.arguments)
        self.pictures: list[Path] = []
        self._declared = {figure.name: figure for figure in declared.figures}
        self._values: dict[str, float | None] = {}
        self._title = declared.title

    def pick(self, full: T, quick: T) -> T:
        """The one value in the full form, the other in the quick form."""
        return quick if self.quick else full

    def data(self, name: str, split: str | None = None, **options: Any) -> Any:
        """A data set by name, as `anynet.data.load` gives it: out of the package, $ANYNET_DATA, the cache, or downloaded."""
        return load(name, split, **options)

    def array(self, data: Any, **options: Any) -> Tensor:
        """The data as a Tensor on the run's device; NumPy arrays stay on the CPU otherwise. `options` are those of `asarray`."""
        return asarray(data, device=self.device, **options)

    def file(self, name: str) -> Path:
        """A file of the folder $ANYNET_DATA that `anynet.data` has no name for; `Unavailable` where it is not there."""
        path = Path(DATA() or ".", name)
        if not path.exists():
            msg = f"{name} is not here: put it into the folder that ANYNET_DATA names"
            raise Unavailable(msg)
        return path

    def say(self, *words: Any) -> None:
        """A line of progress."""
        print(*words, flush=True)

    def progress(self, step: int, steps: int, words: str, times: int = 8) -> None:
        """A line of progress about `times` times in all; `step` counts from 1."""
        if step == steps or step % max(1, steps // times) == 0:
            self.say(f"{step:>{len(str(steps))}}/{steps}  {words}")

    def picture(self, *parts: Any, name: str | None = None) -> Path:
        """Write drawings (`lines`, `bars`, `tiles`, …) as one SVG file, NAME.svg in the folder `out`."""
        return self.write(f"{name or self.name}.svg", compose(self._title, parts))

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the folder `out`."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.pictures.append(path)
        return path

    def figure(self, name: str, value: Any) -> None:
        """The value of a declared figure: a Tensor of one element or a number; None where this form does not measure it."""
        if name not in self._declared:
            msg = f"figure: {name!r} is not declared; declared are {', '.join(map(repr, self._declared))}"
            raise ValueError(msg)
        self._values[name] = None if value is None else float(value)

    def finish(self, seconds: float, cpu: float) -> tuple[list[str], dict[str, Any]]:
        """The last lines and the record; RuntimeError where a declared figure has no value or nothing was drawn."""
        missing = [name for name in self._declared if name not in self._values]
        if missing or not self.pictures:
            msg = f"{self.name} ended without " + (", ".join(missing) if missing else "a picture")
            raise RuntimeError(msg)
        told = [(self._declared[name], value) for name, value in self._values.items() if value is not None]
        written = [f"{path} written" for path in self.pictures]
        record: dict[str, Any] = {
            "example": self.name, "quick": self.quick, "device": self.device, "seed": self.seed, "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "files": [path.name for path in self.pictures], "figures": [figure.record(value, self.quick) for figure, value in told],
        }  # fmt: skip
        record["lines"] = [figure.line(value, self.quick) for figure, value in told]
        return [*written, *record["lines"]], record


class Example:
    """A declared example; calling it reads the command line and runs it.

    ``main()`` reads ``sys.argv``, ``main(["--quick"])`` what is given. Returns the record. Exit codes: 1 where the quick form
    misses what it is to reach, 69 where data or an optional library are not here.
    """

    def __init__(
        self, function: Callable[[ExampleRun], None], topic: str, figures: Sequence[Figure], arguments: str
    ) -> None:
        self.function, self.topic, self.figures, self.arguments = function, topic, tuple(figures), arguments
        code = function.__code__
        self.name = Path(code.co_filename).stem
        doc = function.__globals__.get("__doc__") or self.name
        self.title = " ".join(doc.partition("\n\n")[0].split())
        self._doc = doc
        if not figures:
            msg = f"{self.name}: an example declares at least one figure"
            raise ValueError(msg)

    def _options(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            self.name,
            description=self._doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument(
            "--quick",
            action="store_true",
            help="the short form, a few seconds, without the full form's figures",
        )
        parser.add_argument(
            "--device", help="cpu, strict, torch:cpu, cuda, …; default: ANYNET_DEVICE, else cpu"
        )
        parser.add_argument("--seed", type=int, default=0, help="of the random numbers (0)")
        parser.add_argument(
            "--out", default="gallery", help="folder for the picture and the record (gallery)"
        )
        if self.arguments:
            parser.add_argument("arguments", nargs="*", help=self.arguments)
        found = parser.parse_args(arguments)
        found.arguments = getattr(found, "arguments", [])
        return found

    def __call__(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        options = self._options(arguments)
        device, float_type = anynet_backends.get_default_device(), dtypes.default_float()
        try:
            if options.device:
                anynet_backends.set_default_device(options.device)
            random.manual_seed(options.seed)
            run, start, cpu = ExampleRun(self, options), time.perf_counter(), time.process_time()
            self.function(run)
            lines, record = run.finish(time.perf_counter() - start, time.process_time() - cpu)
        except (DataError, Unavailable) as error:
            _unavailable(self.name, error)
        except ModuleNotFoundError as error:
            if "pip install" not in str(error):
                raise
            _unavailable(self.name, error)
        finally:
            anynet_backends.set_default_device(device)
            dtypes.set_default_float(float_type)
        run.write(f"{self.name}.json", json.dumps(record, ensure_ascii=False, indent=1) + "\n")
        print("\n".join(lines), flush=True)
        if run.quick and any(figure["reached"] is False for figure in record["figures"]):
            raise SystemExit(1)
        return record


def _unavailable(name: str, error: Exception) -> NoReturn:
    print(f"{name}: {error}", file=sys.stderr)
    raise SystemExit(UNAVAILABLE) from None


def example(
    *, topic: str, figures: Sequence[Figure], arguments: str = ""
) -> Callable[[Callable[[ExampleRun], None]], Example]:
    """Declares the function below as an example's `main`.

    Parameters:
      topic: under which it is listed.
      figures: what it is to reach; each must be given its value by `ExampleRun.figure`.
      arguments: what words of the command line mean to it; without, it takes none.
    """

    def declare(function: Callable[[ExampleRun], None]) -> Example:
        return Example(function, topic, figures, arguments)

    return declare
