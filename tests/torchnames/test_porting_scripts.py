"""`anynet port`: what of a script differs is said line by line, and nothing is run."""

import ast
import json
from pathlib import Path

import pytest

import anynet.torch as ours
from anynet.cli import main
from anynet.torch.absent import METHODS, reason
from anynet.torch.porting import findings
from anynet.torch.table import TABLE

SCRIPT = """
import torch, torchvision
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.optim.lr_scheduler import StepLR
raise SystemExit("this is never run")
torch.manual_seed(1)
x = torch.zeros(2, 3).to_sparse_csc()
y = F.relu(torch.pca_lowrank(x.view(-1), 4))
torch.distributed.init_process_group()
scheduler = StepLR(None, 1)
z = nn.Linear(2, 3)(x).untyped_storage()
"""


def test_lines_are_found():
    found = [(f.line, f.name, f.fails) for f in findings(SCRIPT)]
    assert found == [
        (5, "torch.utils.data.DataLoader", False),
        (8, "torch.manual_seed", False),
        (9, ".to_sparse_csc", True),
        (10, "torch.pca_lowrank", True),
        (11, "torch.distributed.init_process_group", False),
        (13, ".untyped_storage", True),
    ]


def test_torchvision_is_followed():
    text = (
        "import torchvision.transforms as T\nfrom torchvision import datasets, models\nT.ToTensor()\n"
        "T.AutoAugment()\nmodels.inception_v3()"
    )
    assert [(f.line, f.name, f.fails) for f in findings(text)] == [
        (4, "torchvision.transforms.AutoAugment", True),
        (5, "torchvision.models.inception_v3", True),
    ]
    assert not [
        f for f in findings("import torch\nimport torch.onnx\nimport torch.jit\nx = net._modules") if f.fails
    ]


def test_identity_of_classes_is_seen():
    text = (
        "import torch\nfrom torch import nn\nkind = nn.Linear\nif type(m) is nn.Linear or nn.ReLU is not m.__class__: pass\n"
        "a = type(m) == nn.Linear, type(m) in (nn.Linear,), type(x) is torch.Tensor, m is nn.Linear\np.share_memory_()\n"
    )
    assert [(f.line, f.name, f.fails) for f in findings(text)] == [
        (4, "torch.nn.Linear", False),
        (4, "torch.nn.ReLU", False),
        (6, ".share_memory_", True),
    ]
    layer, x = ours.nn.Linear(2, 1), ours.ones(2)
    assert type(layer) == ours.nn.Linear  # noqa: E721 - as scripts write it
    assert type(layer) in (ours.nn.Linear,)
    assert type(layer) in {ours.nn.Linear: 1}
    assert type(x) is ours.Tensor


def test_the_command(tmp_path, capsys):
    script = tmp_path / "s.py"
    script.write_text("import torch\ntorch.save({}, 'x')\n", encoding="utf-8")
    assert main(["port", str(script), "json=1"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["line"], entry["fails"]) == (2, False)
    script.write_text("import torch\nx = (", encoding="utf-8")
    assert main(["port", str(script)]) != 0
    assert "is no Python" in capsys.readouterr().err


def test_scripts_of_these_tests_need_nothing():
    text = Path(__file__).with_name("test_torch_networks.py").read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            assert not [f for f in findings("import torch\n" + node.value.value) if f.fails]


def test_every_name_of_pytorch_is_accounted_for():
    torch = pytest.importorskip("torch")
    names = {n for n in dir(torch.Tensor) if not n.startswith("_")}
    assert names - METHODS == {n for n in names if hasattr(ours.Tensor, n)}
    assert not METHODS & set(TABLE)
    assert "the layouts COO and CSR" in reason("to_sparse_csc")
