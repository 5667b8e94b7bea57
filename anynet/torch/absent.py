"""Names of PyTorch that this room has not, and why: what the pages say, and `anynet port`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["METHODS", "UNSHARED", "reason", "refused"]

UNSHARED: Final = (
    "tensors are not shared between processes; start these with `mpiexec -n 4 python SCRIPT.py` and bring them together with "
    "torch.distributed (DataLoader has its own workers)"
)
"""What is said of shared memory."""

_MACHINERY = "exists for PyTorch's own machinery"
_STORAGE = "arrays have no bytes that a program may arrange; reshape, permute and clone do what is visible"
# the first pattern that fits a name says why it is not here
_REASONS: Final = (
    (r"sparse|_coo|_csr|_csc|_bsr|_bsc|coalesce|crow_|ccol_|col_indices|row_indices|^indices|^values|spmm|hsmm|dsmm|hspmm|smm$|saddmm|sspaddmm|to_dense|dense_dim",
     "sparse tensors have the layouts COO and CSR: torch.sparse_coo_tensor, torch.sparse_csr_tensor, to_sparse, torch.sparse.mm"),
    (r"^ao$|quant|^q_|qscheme|int_repr|QInt|QUInt|qparams", "quantization is not offered"),
    (r"Storage|storage|as_strided|data_ptr|stride|^set_$|resize|dim_order|layout|memory_format|frombuffer|from_file|permuted|to_padded|"
     r"to_dlpack|resolve_neg|conj_physical", _STORAGE),
    (r"[a-z]_copy$|as_strided_scatter|slice_inverse", "a functional form of a view; clone() of the view is the same"),
    (r"cudnn|mkldnn|miopen|fbgemm|vulkan|_backward|native_|unsafe_|sym_|Sym|batch_norm_|cutlass|_cell$|norm_except_dim|nonzero_static|hash_tensor",
     _MACHINERY),
    (r"^(batch_norm|instance_norm|embedding|embedding_bag|embedding_renorm_|kl_div|ctc_loss|.*_loss|binary_cross.*|affine_grid.*|grid_sampler.*|"
     r"constant_pad_nd|convolution|max_pool1d_with_indices|adaptive_max_pool1d|feature_dropout|.*dropout_)$",
     "torch.nn.functional has it, under its own name; the arguments of this one are in another order"),
    (r"^(float_power_|polygamma_)$", "the name without the underscore is there"),
    (r"^(pca_lowrank|svd_lowrank)$", "torch.linalg.svd computes it whole"),
    (r"^index$", "dimensions that are objects (functorch.dim) are not offered; x[…] takes indices"),
    (r"^rpc$", "processes that call each other are not offered; torch.distributed has collectives"),
    (r"^(profiler|fx|onnx|jit|package|monitor|classes|ops|library|_C|export)$",
     "PyTorch's own runtime; anynet.profile measures, anynet.compile compiles, anynet.export writes programs"),
    (r"^multiprocessing$|^share_memory", UNSHARED),
    (r"^(nested|jagged)", "nested tensors are not offered; pad_sequence makes one tensor of several"),
    (r"Error$|Tensor$", "the errors and types are Python's and anynet's"),
    (r"Script|JIT|Graph|^Node$|^Value$|Code$|Type$|Type_|TracingState|ErrorReport|FunctionSchema|Argument|Serialization|Reader|Writer|Logger|Guard|Key|"
     r"import_ir|parse_|merge_type|unify_type|CompilationUnit|ExecutionPlan|FileCheck|Capsule|Gradient$|StaticModule|Benchmark|CallStack|AliasDb|"
     r"IODescriptor|OperatorInfo|BufferDict|ModuleDict$|ParameterDict$|^Block$|^Use$|^Tag$|Disable|classproperty|^Await|ConcreteModule|^fork$|^wait$|"
     r"^Future|LockingLogger|DeepCopy|get_file_path|prepare_multi|profiler_|thread_safe|compiled_with|ThroughputB|^Stream$|^Event$|jit|^cond$|while_loop",
     "PyTorch's own compiler and runtime; programs are compiled by anynet.compile and exported by anynet.export"),
    (r"autocast", "torch.autocast and torch.amp say what is switched; there is no global switch"),
    (r"^is_(xla|xpu|ipu|maia|mtia|vulkan|mkldnn|nested|distributed|inference|conj|neg|set_to)|^(xpu|ipu|mtia|chalf|volatile|reinforce|module_load)",
     "belongs to devices and kinds of tensors that are not here"),
    (r"anomaly", "torch.autograd.detect_anomaly"),
    (r"^(symeig|eig|solve|lstsq|lu|lu_solve|lu_unpack|geqrf|orgqr|ormqr|matrix_rank|lobpcg)$",
     "torch.linalg has eigh, eig, solve, lstsq, inv, cholesky, solve_triangular; the others are LAPACK's steps"),
    (r"^(rnn_|lstm|gru)", "torch.nn.RNN, LSTM, GRU"),
    (r"deterministic|num_interop|warn_always|flush_denormal|num_threads|get_device_module|default_tensor_type|float32_matmul",
     "is set before Python starts, or has nothing to set"),
    (r"^(apply_|map_|map2_)$", "a Python function for each element; write it for the whole tensor"),
    (r"^(name|names|rename|align|refine)", "named tensors are not offered"),
    (r"^(output_nr|grad_dtype|as_subclass|record_stream|const_data_ptr|storage_type|type_comment|typename)", _MACHINERY),
)  # fmt: skip


def reason(name: str) -> str:
    """Why a name of PyTorch's is not here; "not yet" where there is no reason.

    >>> reason("data_ptr")
    'arrays have no bytes that a program may arrange; reshape, permute and clone do what is visible'
    """
    for pattern, why in _REASONS:
        if re.search(pattern, name):
            return why
    return "not yet"


def refused(name: str, why: str) -> Callable[..., Any]:
    """A method of that name, which says why there is none."""

    def method(self: Any, *_: Any, **__: Any) -> Any:
        msg = f"{type(self).__name__}.{name}: {why}"
        raise NotImplementedError(msg)

    method.__name__ = name
    method.__doc__ = f"Refused: {why}."
    return method


METHODS: Final = frozenset(
    (
        "apply_", "as_strided_", "as_strided_scatter", "as_subclass", "ccol_indices", "chalf",
        "conj_physical", "conj_physical_", "const_data_ptr", "data_ptr", "dequantize", "dim_order",
        "eig", "float_power_", "geqrf", "grad_dtype", "hash_tensor", "index", "int_repr",
        "ipu", "is_ipu", "is_maia", "is_mtia", "is_set_to", "is_vulkan", "is_xla", "lstsq", "map2_", "map_",
        "module_load", "mtia", "name", "nanquantile", "narrow_copy", "new_empty_strided", "nonzero_static", "orgqr", "ormqr",
        "output_nr", "polygamma_", "q_per_channel_axis", "q_per_channel_scales", "q_per_channel_zero_points", "q_scale",
        "q_zero_point", "qscheme", "record_stream", "reinforce", "resize", "resize_as",
        "resize_as_sparse_", "resolve_neg", "row_indices", "set_", "slice_inverse", "smm", "solve", "sparse_mask",
        "sparse_resize_", "sparse_resize_and_clear_", "sspaddmm", "storage", "storage_type",
        "symeig", "to_mkldnn", "to_padded_tensor", "to_sparse_bsc", "to_sparse_bsr", "to_sparse_csc",
        "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "untyped_storage", "volatile", "xpu",
    )
)  # fmt: skip
"""Methods and attributes of PyTorch's Tensor that this room's has not."""
