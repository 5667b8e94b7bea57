"""What the wheel takes besides the packages: the examples, in one archive, since an installer compiles each file that lies open.

The archive lies in another one, which compresses it as a whole: that takes a third less than each file by itself. How ONNX's graphs are
read and written, what is for CUDA, arrays without values and readers of other libraries' files, which few need, and reports and
explanations, which take longer than to compile what makes them, lie in archives as well, which Python imports from.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = {
    "anynet/autograd/jit": ["on_device.py", "captured.py"],
    "anynet/equations": ["evaluate.py", "render.py"],
    # not those in which the public functions are typed
    "anynet/explanations": ["[cdlno]*.py", "examples.py", "expressions.py"],
    "anynet/export": ["*_source.py", "onnx_graph.py", "source_text.py"],
    "anynet/models/foreign": ["[!_]*.py"],
    "anynet/onnx": ["control.py", "graph.py", "layers.py", "operators/*.py"],
    "anynet/reports": ["[!_]*.py"],
    "backends/anynet_backends": ["cupy_[!b]*.py", "meta_backend.py", "torch_files.py"],
    "backends/anynet_backends/cuda_kernels": ["[!_]*.py"],
    "backends/anynet_backends/file_formats": ["[!_]*.py"],
    "backends/anynet_backends/jit": ["cuda_*.py", "device_trace.py"],
    "backends/anynet_backends/kernels": ["compiled_bins.py", "compiled_softmax.py", "compiled_sparse.py"],
    "anynet/testing/cases": ["[!_]*.py"],
    "anynet/torch": [
        "devices.py",
        "distributed.py",
        "grad_scaler.py",
        "porting.py",
        "sp*.py",
        "utilities.py",
    ],
    "anynet/torchvision": ["[a-z]*.py", "ops/*.py"],
}
"""Files of packages that lie in an archive, and nowhere else in the wheel."""


class ExamplesHook(BuildHookInterface):
    """Puts ``examples/*.py`` that declare an example into ``anynet/gallery/examples.zip``, where `anynet.gallery` finds them, and
    the files of `INSIDE` into an ``inside.zip`` of their package, which is on its path."""

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
        self.build_config.target_config["exclude"] = [
            f"/{package}/{p}" for package, some in INSIDE.items() for p in some
        ]
        for package, patterns in INSIDE.items():
            inside = Path(self._folder.name, package.replace("/", "-") + ".zip")
            home = Path(self.root, package)
            with zipfile.ZipFile(inside, "w") as target:
                for path in sorted(path for pattern in patterns for path in home.glob(pattern)):
                    name, text = path.relative_to(home).as_posix(), path.read_text(encoding="utf-8")
                    target.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED, 9)
            build_data["force_include"][str(inside)] = f"{package.removeprefix('backends/')}/inside.zip"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version == "standard":
            self._folder.cleanup()
