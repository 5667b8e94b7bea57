"""What the wheel takes besides the packages: the examples, in one archive, since an installer compiles each file that lies open."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExamplesHook(BuildHookInterface):
    """Puts ``examples/*.py`` that declare an example into ``anynet/gallery/examples.zip``, where `anynet.gallery` finds them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":  # an editable install reads the folder
            return
        self._folder = tempfile.TemporaryDirectory()
        archive = Path(self._folder.name, "examples.zip")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for path in sorted(Path(self.root, "examples").glob("*.py")):
                if "\n@example(" in (text := path.read_text(encoding="utf-8")):
                    target.writestr(
                        zipfile.ZipInfo(path.name), text, zipfile.ZIP_DEFLATED
                    )  # no date: the same bytes
        build_data["force_include"][str(archive)] = "anynet/gallery/examples.zip"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version == "standard":
            self._folder.cleanup()
