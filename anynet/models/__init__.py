"""Networks by name: what most tasks begin with, with the parameter names of PyTorch's own zoo where there is one, so that its weights load.

>>> import anynet as an
>>> net = an.models.resnet18(num_classes=10)
>>> sum(p.size for p in net.parameters())
11181642

Each class takes plain numbers, words and tuples, so that a run can write down how its network was made.
"""

from anynet.models.bert import BERT
from anynet.models.convnets import ResNet9, SmallCNN
from anynet.models.densenet import DenseNet, densenet100, densenet121, densenet161, densenet169, densenet201
from anynet.models.language import GPT, LSTMLanguageModel
from anynet.models.llama import Llama
from anynet.models.mlp import MLP
from anynet.models.resnet import (
    ResNet,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet50,
    resnet56,
    resnet101,
    resnet152,
)
from anynet.models.seq2seq import EncoderDecoder
from anynet.models.table import PeriodicEmbedding, TableLinear, TableMLP
from anynet.models.unet import UNet
from anynet.models.vit import ViT, vit_b_16, vit_b_32, vit_l_16, vit_l_32
from anynet.models.weights import LoadReport, load_weights

__all__ = [
    "BERT", "DenseNet", "densenet100", "densenet121", "densenet161", "densenet169", "densenet201",
    "EncoderDecoder", "GPT", "Llama", "load_weights", "LoadReport", "LSTMLanguageModel", "MLP", "PeriodicEmbedding", "ResNet", "resnet101",
    "resnet152", "resnet18", "resnet20", "resnet32", "resnet34", "resnet50", "resnet56", "ResNet9", "SmallCNN", "TableLinear", "TableMLP",
    "UNet", "ViT", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32",
]  # fmt: skip
