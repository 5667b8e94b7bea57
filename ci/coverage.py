"""Compares anynet's names with those of the installed PyTorch and writes docs/coverage.md.

    python -m ci.coverage

"same" means: the same name, the same parameters in the same order with the same defaults (what PyTorch itself calls deprecated
aside). That values and gradients agree is what the tests compare.
"""

from __future__ import annotations

import inspect
import pathlib
import re
import sys
from typing import Any

import anynet as an
from anynet.torch.absent import reason
from anynet.torch.table import TABLE

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "coverage.md"
DEPRECATED = {
    "size_average",
    "reduce",
    "_stacklevel",
    "verbose",
    "_weight",
    "_freeze",
    "self",
}
DEPRECATED |= {"min_value", "max_value"}  # of Hardtanh
DEPRECATED |= {"foreach", "capturable", "differentiable", "fused"}  # how PyTorch's optimizers are carried out

NO_MACHINERY = "exists for PyTorch's own machinery"
QUANTIZED = "quantization is not offered"
OLD = "deprecated in PyTorch"
IN_PLACE = "functions do not change their arguments; use the name without the underscore"
NOT_OFFERED = {
    "DataParallel": "a network is called itself; anynet.torch.nn has it, for one device",
    "LinearCrossEntropyOptions": NO_MACHINERY,
    **dict.fromkeys(("assert_int_or_pair", "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic",
                     "native_channel_shuffle", "grouped_mm", "scaled_grouped_mm", "scaled_mm", "PackedSequence_", "bind",
                     "convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format"), NO_MACHINERY),
    **dict.fromkeys(("celu_", "elu_", "hardtanh_", "leaky_relu_", "relu_", "rrelu_", "selu_", "threshold_"), IN_PLACE),
    **dict.fromkeys(("upsample_bilinear", "upsample_nearest", "constant", "dirac", "eye", "kaiming_normal", "kaiming_uniform",
                     "normal", "orthogonal", "sparse", "uniform", "xavier_normal", "xavier_uniform"), OLD),
}  # fmt: skip
NOT_OFFERED |= {"FlexKernelOptions": "tunes PyTorch's kernels", "varlen_attn_out": IN_PLACE}
DATAPIPES = "deprecated in PyTorch"
NOT_OFFERED |= {
    **dict.fromkeys(("CheckpointError", "CheckpointFunction", "CheckpointPolicy", "DefaultDeviceType", "GraphExecGroup", "SAC_IGNORED_OPS",
                     "SelectiveCheckpointContext", "check_backward_validity", "create_selective_checkpoint_contexts", "detach_variable",
                     "get_device_states", "noop_context_fn", "set_checkpoint_debug_enabled", "set_checkpoint_early_stop",
                     "set_device_states", "_DatasetKind", "default_convert"), NO_MACHINERY),
    **dict.fromkeys(("DFIterDataPipe", "DataChunk", "IterDataPipe", "MapDataPipe", "argument_validation", "functional_datapipe",
                     "guaranteed_datapipes_determinism", "non_deterministic", "runtime_validation",
                     "runtime_validation_disabled"), DATAPIPES),
}  # fmt: skip
NOTES = {
    "BlockMask": "made by create_block_mask only; PyTorch's constructor takes the tables of its kernels",
    "create_block_mask": "the options left out tune PyTorch's kernels",
    "CrossMapLRN2d": "PyTorch's sum still holds a channel that has left the window; anynet's is that of the formula",
    "SyncBatchNorm": "process_group is any object with allreduce(array), such as a communicator of mpi4py; on the CPU too",
    **dict.fromkeys(("Softmax", "LogSoftmax", "Softmin", "softmax", "log_softmax", "softmin"),
                    "without dim, PyTorch guesses for more than two axes (and warns); anynet asks"),
    "RReLU": "the random numbers are anynet's", "rrelu": "the random numbers are anynet's",
    "Dropout": "the masks are anynet's, the same on every backend",
    "BCELoss": "PyTorch's least denominator is a float32 of 1e-12, and its gradient in the target is infinite at inputs of 0 and 1",
    "binary_cross_entropy": "as BCELoss",
    "EmbeddingBag": "with scale_grad_by_freq PyTorch divides by the counts of other rows",
    "embedding_bag": "with scale_grad_by_freq PyTorch divides by the counts of other rows",
    "KLDivLoss": "PyTorch's gradient in the target is nan where the target is 0; anynet's is 0",
    "kl_div": "PyTorch's gradient in the target is nan where the target is 0; anynet's is 0",
    "MultiLabelMarginLoss": "PyTorch's mean over an empty batch is what stood in memory; anynet's is nan",
    "MultiMarginLoss": "PyTorch's mean over an empty batch is what stood in memory; anynet's is nan",
    "SoftMarginLoss": "PyTorch's exp overflows below -700; anynet's does not",
    "soft_margin_loss": "PyTorch's exp overflows below -700; anynet's does not",
    "InstanceNorm1d": "PyTorch refuses an empty batch with running statistics",
    "PixelShuffle": "PyTorch's gradient fails for an empty batch", "PixelUnshuffle": "PyTorch's gradient fails for an empty batch",
    "Hardsigmoid": "PyTorch's gradient in float64 multiplies by a float32 of 1/6; anynet's is exact",
    "CTCLoss": "the gradient is that of the formula; PyTorch's assumes that log_softmax comes before",
    "ctc_loss": "the gradient is that of the formula; PyTorch's assumes that log_softmax comes before",
    "NAdam": "PyTorch keeps the product of momenta in float32; anynet's is a Python float",
    "Muon": "the iteration runs in the parameter's type, PyTorch's in bfloat16",
    "ASGD": "PyTorch keeps eta in float32",
    "FractionalMaxPool2d": "the random numbers are anynet's", "FractionalMaxPool3d": "the random numbers are anynet's",
    "fractional_max_pool2d": "the random numbers are anynet's", "fractional_max_pool3d": "the random numbers are anynet's",
    "TransformerEncoder": "enable_nested_tensor and mask_check are accepted and change nothing",
}  # fmt: skip


def parameters(f: Any) -> list[tuple[str, Any]]:
    """Names and defaults."""
    try:
        found = inspect.signature(f.__init__ if inspect.isclass(f) else f).parameters.values()
    except (TypeError, ValueError):
        return []
    return [(p.name, p.default) for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def simple(value: Any) -> Any:
    """A default that can be compared."""
    return getattr(value, "__name__", value)


def difference(ours: Any, theirs: Any) -> str:
    """What differs between two signatures, "" for nothing."""
    a = {n: d for n, d in parameters(ours) if n not in DEPRECATED}
    b = {n: d for n, d in parameters(theirs) if n not in DEPRECATED}
    if not b:
        return ""
    lacking = [n for n in b if n not in a]
    parts = [f"lacks {', '.join(lacking)}"] if lacking else []
    other = [n for n in b if n in a and simple(a[n]) != simple(b[n]) and b[n] is not inspect.Parameter.empty]
    if other:
        said = ", ".join(f"{n}={simple(a[n])!r} where PyTorch has {simple(b[n])!r}" for n in other[:4])
        parts.append(re.sub(r" object at 0x[0-9a-f]+", "", said))  # another address at each run
    return "; ".join(parts)


def table(title: str, ours: Any, theirs: Any, keep: Any) -> tuple[list[str], int, int]:
    """A section of the page, and how many names of how many there are."""
    names = sorted(n for n in dir(theirs) if keep(n, getattr(theirs, n)))
    rows, there = [], 0
    for name in names:
        mine = getattr(ours, name, None)
        if mine is None:
            rows.append(f"| `{name}` | not offered | {NOT_OFFERED.get(name, 'not yet')} |")
            continue
        there += 1
        found = "; ".join(filter(None, (difference(mine, getattr(theirs, name)), NOTES.get(name, ""))))
        rows.append(f"| `{name}` | {'with a difference' if found else 'same'} | {found} |")
    return (
        [f"## {title}: {there} of {len(names)}", "", "| name | | |", "| --- | --- | --- |", *rows, ""],
        there,
        len(names),
    )


def rows_of_the_table(title: str, ours: Any, theirs: Any, names: list[str]) -> tuple[list[str], int, int]:
    """A section about names that the table of `anynet.torch` has, which its tests compare with PyTorch."""
    rows, there = [], 0
    for name in names:
        if getattr(ours, name, None) is None:
            rows.append(f"| `{name}` | not offered | {reason(name)} |")
            continue
        there += 1
        row = TABLE.get(name) or TABLE.get(name.removesuffix("_"))
        found = row.differs if row is not None else SPELLED.get(name, "")
        rows.append(f"| `{name}` | {'with a difference' if found else 'same'} | {found} |")
    head = [f"## {title}: {there} of {len(names)}", "", "| name | | |", "| --- | --- | --- |"]
    return [*head, *rows, ""], there, len(names)


SPELLED = {
    "save": "writes safetensors, whatever the name of the file", "load": "reads safetensors and PyTorch's files of weights; runs nothing",
    "manual_seed": "the numbers that follow are anynet's", "seed": "the numbers that follow are anynet's",
    "compile": "calls without gradients are compiled; a whole training step: anynet.compile", "numpy": "may be a copy",
    "set_num_threads": "refused: OMP_NUM_THREADS", "get_rng_state": "a dict of integers", "set_rng_state": "takes what get_rng_state gave",
    "set_printoptions": "accepted, changes nothing", "finfo": "a class of anynet's", "Generator": "anynet's numbers",
    "register_post_accumulate_grad_hook": "refused; register_hook",
    **dict.fromkeys(("uniform_", "normal_", "bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_", "random_"),
                    "the numbers are anynet's"),
    "is_contiguous": "always true: arrangement in memory is not visible", "pin_memory": "itself",
    "share_memory_": "refused: mpiexec starts processes",
}  # fmt: skip


def main() -> int:
    """Write the page."""
    import torch
    from torch.nn.attention import flex_attention, varlen
    from torch.utils import checkpoint, data

    nn, optim = torch.nn, torch.optim

    def public(module: Any, kind: Any) -> Any:
        def keep(name: str, value: Any) -> bool:
            home = getattr(value, "__module__", "") or ""
            own = home.startswith((module, "torch._C", "torch.nn")) or inspect.isbuiltin(value)
            return not name.startswith("_") and kind(value) and own and not name.endswith("_with_indices")

        return keep

    classes, functions = inspect.isclass, lambda v: inspect.isroutine(v)
    sections = [
        rows_of_the_table("torch, as anynet.torch", an.torch, torch, sorted(
            n for n in dir(torch) if not n.startswith("_") and callable(getattr(torch, n)))),
        rows_of_the_table("torch.Tensor, as anynet.torch.Tensor", an.torch.Tensor, torch.Tensor, sorted(
            n for n in dir(torch.Tensor) if not n.startswith("_"))),
        table("torch.nn", an.nn, nn, public("torch.nn", classes)),
        table("torch.nn.functional", an.nn.functional, nn.functional, public("torch.nn.functional", functions)),
        table("torch.nn.init", an.nn.init, nn.init, public("torch.nn.init", functions)),
        table("torch.nn.utils", getattr(an.nn, "utils", None), nn.utils, public("torch.nn.utils", functions)),
        table("torch.nn.utils.rnn", an.nn.utils.rnn, nn.utils.rnn,
              public("torch.nn.utils.rnn", lambda v: inspect.isclass(v) or inspect.isroutine(v))),
        table("torch.nn.utils.parametrizations", an.nn.utils.parametrizations, nn.utils.parametrizations,
              public("torch.nn.utils.parametrizations", functions)),
        table("torch.nn.utils.parametrize", an.nn.utils.parametrize, nn.utils.parametrize,
              public("torch.nn.utils.parametrize", functions)),
        table("torch.nn.attention.flex_attention", an.nn.attention.flex_attention, flex_attention,
              lambda name, value: name in flex_attention.__all__),
        table("torch.nn.attention.varlen", an.nn.attention.varlen, varlen, lambda name, value: name in varlen.__all__),
        table("torch.optim", an.optim, optim, public("torch.optim", classes)),
        table("torch.optim.lr_scheduler", an.optim.lr_scheduler, optim.lr_scheduler, public("torch.optim.lr_scheduler", classes)),
        table("torch.optim.swa_utils", getattr(an.optim, "swa_utils", None), optim.swa_utils,
              public("torch.optim.swa_utils", lambda v: inspect.isclass(v) or inspect.isroutine(v))),
        table("torch.utils.checkpoint", an.utils.checkpoint, checkpoint, lambda name, value: name in checkpoint.__all__),
        table("torch.utils.data", an.torch.utils.data, data, lambda name, value: name in data.__all__),
    ]  # fmt: skip
    there, all_names = sum(s[1] for s in sections), sum(s[2] for s in sections)
    lines = [
        "# What there is of PyTorch's names",
        "",
        "A name counts where it stands under PyTorch's own path, with `anynet` for `torch`;",
        "those of `torch`, `torch.Tensor` and `torch.utils.data` with `anynet.torch` ([From PyTorch](from_pytorch.md)).",
        f"Compared with PyTorch {torch.__version__.partition('+')[0]} by `python -m ci.coverage`: {there} of {all_names} names.",
        "\"same\" is said of the signature (parameters, order, defaults; deprecated ones aside);",
        "that values and gradients agree is what the tests compare.",
        "",
    ]  # fmt: skip
    for rows, _, _ in sections:
        lines += rows
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"{there} of {all_names} names; {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
