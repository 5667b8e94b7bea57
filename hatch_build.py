"""What the wheel takes besides the packages: the examples, in one archive, since an installer compiles each file that lies open.

The archive lies in another one, which compresses it as a whole: that takes a third less than each file by itself. How ONNX's graphs and
operators are read, of no use without the extra, lies in an archive as well, which Python imports from.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExamplesHook(BuildHookInterface):
    """Puts ``examples/*.py`` that declare an example into ``anynet/gallery/examples.zip``, where `anynet.gallery` finds them, and
    what `anynet.onnx` does not show into ``anynet/onnx/inside.zip``, which is on its path."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":  # an editable install reads the folder
            return
        self._folder = tempfile.TemporaryDirectory()
        archive = Path(self._folder.name, "examples.zip")
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as target:
            for path in sorted(Path(self.root, "examples").glob("*.py")):
                if "\n@example(" in (text := path.read_text(encoding="utf-8")):
                    target.writestr(zipfile.ZipInfo(path.name), text)  # no date: the same bytes
        with zipfile.ZipFile(archive, "w") as target:
            target.writestr(zipfile.ZipInfo("examples.zip"), whole.getvalue(), zipfile.ZIP_DEFLATED, 9)
        build_data["force_include"][str(archive)] = "anynet/gallery/examples.zip"
        inside = Path(self._folder.name, "inside.zip")
        package = Path(self.root, "anynet/onnx")
        with zipfile.ZipFile(inside, "w") as target:
            for path in sorted(
                [package / "graph.py", package / "layers.py", *package.glob("operators/*.py")]
            ):
                name = path.relative_to(package).as_posix()
                text = path.read_text(encoding="utf-8")
                target.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED, 9)
        build_data["force_include"][str(inside)] = "anynet/onnx/inside.zip"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version == "standard":
            self._folder.cleanup()
