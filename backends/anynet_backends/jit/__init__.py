"""The just-in-time compiler of NumPy programs, one file a pass, in the order of the data:
trace → passes → memory plan → lowering → fusion → machine code.

It compiles a single operation that is called again and again, a `Sequential`, a compiled step, and an optimizer's update.

- `tracer`, `tracer_backend`: arrays whose operations append `instructions` to a trace.
- `passes`: dead code, common subexpressions, constants, store forwarding.
- `memory_plan`: places for the results, from their lifetimes.
- `lowering`: instructions become `numpy_calls`. `program` runs the passes, and replays the calls.
- `translation`: calls become machine code, by `fusion` of element-wise ones into loops (`loop_ir`) and by machine functions for the
  others (`calls`, `ufuncs`); what runs is a `segment`, or a `scan` of one.
- `compiler`, `code_cache`: LLVM, with runtime.ll and parallel.ll, and its code on disk.
- `native_call`: a program as a built-in function, on small arrays. `blocks`: one on large arrays, block by block, along the axes that
  `iteration` finds; `ordered_sums`: sums of large arrays in an order that blocks and threads do not change.
- `printing`: each program after each pass, where `ANYNET_PASSES` asks for it.
- `elementwise_program`: a program on vectors of any length, in place (optimizers' updates).
- `device_trace`, `cuda_lowering`: a trace of forms as a program for CUDA (`cuda_program`), its axes (`cuda_axes`); `cuda_source`, with
  `cuda_operands`, `cuda_expressions` and `cuda_random`: the text of its kernels.
- `ir_builder`: kernels that are written in LLVM's language.
"""

import os

# in the wheel what serves CUDA alone lies in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))
