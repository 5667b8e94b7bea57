"""LLVM: compiles text in its assembly language for this processor.

llvmlite compiles (the extra `numba` brings it). What it makes is kept on disk (`anynet_backends.jit.code_cache`), one file for each
text and kind of processor. The functions that each program needs are in runtime.ll, indexing.ll and finite.ll.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from anynet_backends.concurrency import BUILD_LOCK, once
from anynet_backends.jit.code_cache import CodeCache
from anynet_backends.jit.printing import print_pass

__all__ = ["MOST_AXES", "MOST_OPERANDS", "Compiler", "compiler", "converts_half", "text_of", "version"]

MOST_OPERANDS, MOST_AXES = 24, 8
"""Of a loop whose outermost axis threads share: the runtime copies its operands and axes onto the stack."""


_PASSES: Final = "O3, loops as vectors"
"""Two quotients beside each other are not to become half of a vector: the other half would be 0/0 and raise the exception of an
invalid operation, for which a call falls back to NumPy."""


class Compiler:
    """LLVM for this processor, with a cache on disk."""

    def __init__(self) -> None:
        self.llvm: Any = import_module("llvmlite.binding")
        llvm = self.llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.target = llvm.Target.from_default_triple()
        self.processor = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features().flatten()
        version = ".".join(map(str, llvm.llvm_version_info))
        self.made_by = (
            llvm.get_default_triple(),
            self.processor,
            self.features,
            version,
            _llvmlite(),
            _PASSES,
        )
        self.cache = CodeCache()
        self.engines: list[Any] = []  # code lives as long as they
        self.known: dict[str, dict[str, int]] = {}
        self.runtime = self.functions(_runtime(), _RUNTIME)
        self.run_table = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(self.runtime["run_table"])

    def functions(self, code: str, names: Sequence[str]) -> dict[str, int]:
        """Addresses of the functions of a text of code."""
        with BUILD_LOCK:
            found = self.known.get(code)
            if found is None:
                found = self.known[code] = self._compile(code, names)
            return found

    def _compile(self, code: str, names: Sequence[str]) -> dict[str, int]:
        llvm = self.llvm
        key = "\n".join((*self.made_by, code))
        # an engine owns its machine and frees it
        machine = self.target.create_target_machine(cpu=self.processor, features=self.features, opt=3)
        module = llvm.parse_assembly(code)
        module.triple, module.data_layout = llvm.get_default_triple(), str(machine.target_data)
        engine = llvm.create_mcjit_compiler(module, machine)
        kept = self.cache.read(key)
        if kept is None:
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization, options.slp_vectorization = True, False  # see _PASSES
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        print_pass("llvm", f"machine code of {', '.join(names)}", str(module).splitlines)
        engine.set_object_cache(
            notify_func=lambda _, compiled: self.cache.write(key, compiled) if kept is None else None,
            getbuffer_func=lambda _: kept,
        )
        engine.finalize_object()
        self.engines.append(engine)
        return {name: engine.get_function_address(name) for name in names}


def text_of(file: str, **values: object) -> str:
    """The text of a file of LLVM's assembly language beside this one, with values in place of the words in capitals."""
    text = (
        Path(__file__).with_name(file).read_text("utf-8")
    )  # importlib.resources takes longer to import than all else
    for word, value in values.items():
        text = re.sub(rf"{word}\b", str(value), text)
    return text


_RUNTIME: Final = (
    "run_table", "run_segment", "data_pointer", "nested_loop", "onednn", "within", "take_rows",
    *(f"{f}_{a}" for f in ("gather", "scatter", "add_rows", "sum_rows", "sum_taken_rows", "not_finite") for a in "fd"),
)  # fmt: skip
"""The functions of the runtime: see runtime.ll, indexing.ll and finite.ll."""


def _runtime() -> str:
    contents_of_bytes = bytes.__basicsize__ - 1
    return (
        text_of("structs.ll")
        + text_of("runtime.ll", BYTES=contents_of_bytes)
        + text_of("indexing.ll", TYPE="float", LETTER="f")
        + text_of("indexing.ll", TYPE="double", LETTER="d")
        + text_of("finite.ll", BITS="i32", EXPONENT=0xFF << 23, LETTER="f")
        + text_of("finite.ll", BITS="i64", EXPONENT=0x7FF << 52, LETTER="d")
    )


def _llvmlite() -> str:
    return str(getattr(import_module("llvmlite"), "__version__", ""))


def version() -> str:
    """LLVM's."""
    return ".".join(map(str, import_module("llvmlite.binding").llvm_version_info))


@once
def compiler() -> Compiler:
    """The process's compiler."""
    return Compiler()


@once
def converts_half() -> bool:
    """Whether the processor converts float16 itself, so that no function of a library is needed for it."""
    made = compiler()
    return "+f16c" in made.features.split(",") or made.llvm.get_default_triple().startswith("aarch64")
