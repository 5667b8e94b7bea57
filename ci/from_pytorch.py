"""Writes docs/from_pytorch.md, the page for those who come from PyTorch, from the table of `anynet.torch`.

python -m ci.from_pytorch
"""

from __future__ import annotations

import pathlib
import sys

from anynet.torch.table import TABLE

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "from_pytorch.md"
HEAD = """# From PyTorch

Modules, losses, `nn.functional`, `nn.init`, optimizers and schedules of anynet have PyTorch's names and arguments;
functions of arrays have those of the array API standard (`an.concat`, `an.sum(x, axis=…)`). For code that is written
for PyTorch, arrays and all, there is `anynet.torch`:

```python
import anynet.torch as torch
from anynet.torch import nn, optim

net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
x = torch.arange(8.0).view(2, 4)
loss = (net(x) ** 2).mean(dim=0).sum()
loss.backward()
net[0].weight.data.add_(net[0].weight.grad, alpha=-0.1)
```

`anynet.torch.install()` lets `import torch` find it where PyTorch is not installed (it never hides PyTorch). Which
lines of a script would fail or differ, and why, is said by

    anynet port SCRIPT.py

which reads the script and runs nothing. `anynet.torch.imports.with_changed_imports(text)` gives the script with its
import lines changed and nothing else; einops is `anynet.torch.einops`, torchvision `anynet.torchvision` (transforms,
`ImageFolder`, the data sets that `anynet.data.load` knows, networks, `ops`, `save_image`). Which of PyTorch's names there are:
[coverage](coverage.md).

Public scripts that were run beside PyTorch with their import lines changed and nothing else are listed in
`tests/torchnames/public_scripts.py` and `test_public_models.py`.

## What differs, and is not an error

* Random numbers are anynet's: the same seed gives other numbers than PyTorch, and the same on every device. Their
  distributions are the same.
* `torch.save` writes safetensors, whatever the name of the file; a whole module is pickled. `torch.load` reads the
  former and PyTorch's .pt and .pth files of weights; whatever else is pickled in a file is refused by its name, and
  nothing is run.
* A write in place into a tensor that an operation has saved for the backward pass is no error: the operation keeps
  the old values, and the gradient is that of what was computed. After a write through `.data` or `detach()`, which PyTorch
  does not notice, its gradient is that of the overwritten values instead.
* `x.numpy()` and `torch.from_numpy(a)`: what is written into the array is seen in the tensor; what is written into
  the tensor in place may leave the array as it was.
* `p.data = y` gives p the values of y; what is written into y afterwards is not seen in p. A second backward pass makes
  a new `p.grad` where PyTorch adds to the old one, which another name may still show.
* Sparse tensors (COO, and CSR of matrices) keep positions and values: products with dense tensors, transposes, sums and
  what keeps zeros compute with the values alone. Other operations compute with the zeros and give dense tensors, where
  PyTorch refuses most. The gradient of a sparse leaf is at its positions, of `@` too.
* `x.stride()`, `is_contiguous` and `as_strided` speak of a tensor that lies in order, and of its views as they show it: the
  result of an operation lies in order here, where PyTorch may keep the order of the operand. `memory_format` changes nothing.
* `type(layer) is nn.Linear` is false, since layers are anynet's own; `type(layer) == nn.Linear`, `in` and `isinstance` are as in
  PyTorch.
* `torch.cuda` has one queue: streams and events can be made, and work runs in the order in which it is written.
* `torch.compile` compiles calls without gradients; a whole training step is compiled by `anynet.compile(step)`.
* dtypes are anynet's and print so (`anynet.float32`); `torch.float32 is anynet.float32`.

## What is refused

* A write into a view that shows an element more than once (`expand`), as in PyTorch.
* `x[indices] = values` with an index given twice, where values are being differentiated (else the last value stays);
  `index_add` and `scatter_add` add up.
* Tensors in bfloat16 on NumPy, which has no such type (`torch.autocast` rounds to it); float16 there is.

## In anynet's own namespace

What is spelled differently in scripts that use `an` itself:

| PyTorch | anynet |
| --- | --- |
| `torch.cat`, `x.permute`, `x.unsqueeze` | `an.concat`, `an.permute_dims`, `an.expand_dims` |
| `dim=`, `keepdim=` | `axis=`, `keepdims=` |
| `x.view`, `x.reshape`, `x.flatten` | `an.reshape` |
| `x.std()`, `x.var()` | `an.std(x, correction=1)`, `an.var(x, correction=1)` |
| `x.repeat(2, 1)`, `x.repeat_interleave(2)` | `an.tile(x, (2, 1))`, `an.repeat(x, 2)` |
| `x.max(dim)` | `an.max(x, axis=…)` and `an.argmax(x, axis=…)` |
| `torch.gather(x, dim, i)`, `x.scatter(dim, i, v)` | `an.gather(x, i, axis=…)`, `an.scatter(x, i, v, axis=…)` |
| `torch.einsum`, `torch.topk`, `torch.bincount`, `torch.diag` | `an.einsum`, `an.topk`, `an.bincount`, `an.diag` |
| `x.unfold(dim, size, step)` | `an.sliding_windows(x, size, axis=…, step=…)` |
| `torch.randn`, `torch.rand`, `torch.randint`, `torch.randperm` | `an.random.normal`, `uniform`, `integers`, `permutation` |
| `p.data.add_(…)` | `p.assign_(…)` inside `an.no_grad()` |
| integers / integers is float32 | float64, as the array API leaves it to the library |

## The table

Each row is compared with PyTorch by lines that are run here and there: values, dtypes, shapes, gradients. "in place"
is the form with an underscore; "method" and "function" say where the name stands.

| name | where | an example | differs |
| --- | --- | --- | --- |
"""


def main() -> int:
    """Write the page."""
    rows = []
    for name, row in sorted(TABLE.items()):
        where = ", ".join(
            w
            for w, there in (
                ("function", row.is_function),
                ("method", row.is_method),
                ("in place", row.in_place),
            )
            if there
        )
        example = f"`{row.examples[0]}`" if row.examples else ""
        rows.append(f"| `{name}` | {where} | {example} | {row.differs} |")
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(rows)} rows; {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
