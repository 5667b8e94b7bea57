"""Checkpoints in the layout of Hugging Face: config.json says what the network is, model.safetensors or pytorch_model.bin has its weights.

A family is a function from the configuration to a network of `anynet.models`; each option of the configuration that would change what
the network computes is either taken or refused. The network knows the names of the weights (`adapt_state`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anynet._hints import nearest
from anynet.data.text import TextPreprocessing
from anynet.data.tokens import Tokenizer
from anynet.models.bert import BERT
from anynet.models.language import GPT
from anynet.models.llama import Llama
from anynet.models.resnet import ResNet
from anynet.models.vit import ViT
from anynet.models.weights import load_weights
from anynet.nn.module import Module

__all__ = ["load", "tokenizer"]

_ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip
_LIMIT = 1 << 20  # bytes of a config.json


class _Config:
    """A config.json: values by name, with the type that is expected."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    def refuse(self, name: str, expected: str) -> ValueError:
        return ValueError(
            f"hub.load: {self.path}: {name} must be {expected}, got {self.values.get(name)!r:.80}"
        )

    def size(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 31:
            raise self.refuse(name, "an integer ≥ 1")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.refuse(name, "a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def activation(self, name: str, default: str) -> str:
        word = self.values.get(name, default)
        if word not in _ACTIVATIONS:
            raise self.refuse(name, f"one of {', '.join(_ACTIVATIONS)}")
        return _ACTIVATIONS[word]

    def only(self, **allowed: Any) -> None:
        """Refuse what this library's network does otherwise."""
        for name, value in allowed.items():
            if self.values.get(name, value) not in (value, None):
                raise self.refuse(name, f"{value!r}: nothing else is offered")

    def classes(self) -> int:
        """As many outputs as there are labels; two unless it is said."""
        labels = self.values.get("id2label")
        if isinstance(labels, dict) and labels:
            return len(labels)
        return self.size("num_labels", 2)


def load(path: str | os.PathLike[str], *, num_classes: int | None = None, dtype: Any = None) -> Module:
    """The network of a checkpoint in the layout of Hugging Face, with its weights, in evaluation mode.

    Parameters:
      path: a folder with config.json and model.safetensors, pytorch_model.bin or the index of several such files; or one such file,
        with config.json beside it.
      num_classes: a new last layer for so many classes, in place of the checkpoint's; for ViTModel, which has none.
      dtype: of the network; float32 unless given.

    What it makes, by the ``architectures`` of the configuration:

      - BertModel, BertForMaskedLM, BertForPreTraining (its masked half), BertForSequenceClassification, BertForTokenClassification,
        BertForQuestionAnswering: `anynet.models.BERT`;
      - GPT2LMHeadModel, GPT2Model: `anynet.models.GPT`;
      - LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM: `anynet.models.Llama`; with a sliding window `context` is the window;
      - ViTForImageClassification, ViTModel: `anynet.models.ViT`;
      - ResNetForImageClassification: `anynet.models.ResNet`.

    Every tensor of the network is loaded, and every one of the file is used, but for those that no head here needs (the prediction of the
    next sentence, a pooler before another head) and copies of tied matrices. Tied matrices are one parameter. Safetensors are mapped into
    memory, files of PyTorch read without running what is in them; bfloat16 becomes float32. Nothing is downloaded.

    Errors: FileNotFoundError for what is not there; ValueError for an architecture that is not offered, and for options of the
    configuration that would change the result and are not offered; `StateError` where names or shapes do not fit.

    >>> import json, pathlib, tempfile
    >>> import anynet as an
    >>> sizes = {"vocab_size": 20, "n_positions": 8, "n_embd": 4, "n_layer": 1, "n_head": 2}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = json.dumps({"architectures": ["GPT2LMHeadModel"], **sizes})
    ...     _ = pathlib.Path(folder, "config.json").write_text(text)
    ...     _ = an.save(f"{folder}/model.safetensors", an.models.GPT(20, 8, 4, 1, 2).state_dict())
    ...     net = an.hub.load(folder)
    >>> net(an.asarray([[1, 2, 3]])).shape
    (1, 3, 20)
    """
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    config = _config(folder / "config.json")
    named = config.values.get("architectures")
    name = named[0] if isinstance(named, list) and len(named) == 1 else None
    if not isinstance(name, str) or name not in _FAMILIES:
        given = repr(named) if name is None else repr(name) + nearest(name, _FAMILIES, everything=False)
        msg = f"hub.load: {config.path}: architectures must be one of {', '.join(_FAMILIES)}, got {given}"
        raise ValueError(msg)
    if not place.exists():
        msg = f"hub.load: there is no {place}"
        raise FileNotFoundError(msg)
    if num_classes is not None and name not in _WITH_CLASSES:
        msg = f"hub.load: num_classes is for {', '.join(sorted(_WITH_CLASSES))}, got {num_classes} for {name}"
        raise ValueError(msg)
    net = _FAMILIES[name](config, name, num_classes)
    if dtype is not None:
        net = net.to(dtype)
    load_weights(net, place, head="same" if num_classes is None else "new")
    return net.eval()


def tokenizer(path: str | os.PathLike[str]) -> TextPreprocessing:
    """The tokenizer of a checkpoint (extra text): its tokenizer.json, as `anynet.generate` takes it:
    ``an.generate(net, "Once", preprocessing=an.hub.tokenizer(folder))``; ``.encode(text)`` gives tokens, ``.decode_ids(tokens)`` text.

    `path` is the folder or the file. No tokens are added at the beginning or the end. FileNotFoundError where there is no tokenizer.json,
    DataError for a file that is none.
    """
    place = Path(path)
    folder, file = (place, place / "tokenizer.json") if place.is_dir() else (place.parent, place)
    if not file.is_file():
        msg = f"hub.tokenizer: there is no {file}"
        raise FileNotFoundError(msg)
    context = 1024
    if (folder / "config.json").is_file():
        config = _config(folder / "config.json")
        name = "n_positions" if "n_positions" in config.values else "max_position_embeddings"
        context = config.size(name, context)
    return TextPreprocessing(Tokenizer.from_file(file), context)


def _config(path: Path) -> _Config:
    if not path.is_file():
        msg = f"hub.load: there is no {path}; config.json says what the network is"
        raise FileNotFoundError(msg)
    if path.stat().st_size > _LIMIT:
        msg = f"hub.load: {path} must have at most {_LIMIT} bytes, got {path.stat().st_size}"
        raise ValueError(msg)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"hub.load: {path} must be JSON: {type(error).__name__}: {error!s:.120}"
        raise ValueError(msg) from None
    if not isinstance(values, dict):
        msg = f"hub.load: {path} must be a JSON object, got {type(values).__name__}"
        raise ValueError(msg)
    return _Config(path, values)


# ----- the families -----

_BERT_HEADS = {
    "BertModel": None, "BertForMaskedLM": "masked", "BertForPreTraining": "masked", "BertForSequenceClassification": "classes",
    "BertForTokenClassification": "tokens", "BertForQuestionAnswering": "span",
}  # fmt: skip


def _bert(config: _Config, name: str, num_classes: int | None) -> Module:
    config.only(
        position_embedding_type="absolute",
        is_decoder=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
    )
    return BERT(
        config.size("vocab_size", 30522),
        config.size("max_position_embeddings", 512),
        config.size("hidden_size", 768),
        config.size("num_hidden_layers", 12),
        config.size("num_attention_heads", 12),
        config.size("intermediate_size", 3072),
        config.size("type_vocab_size", 2),
        config.number("hidden_dropout_prob", 0.1),
        config.activation("hidden_act", "gelu"),
        config.number("layer_norm_eps", 1e-12),
        _BERT_HEADS[name],
        config.classes() if num_classes is None else num_classes,
    )


def _gpt2(config: _Config, name: str, num_classes: int | None) -> Module:
    config.only(scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    width = config.size("n_embd", 768)
    return GPT(
        config.size("vocab_size", 50257),
        config.size("n_positions", 1024),
        width,
        config.size("n_layer", 12),
        config.size("n_head", 12),
        config.number("resid_pdrop", 0.1),
        tied=name == "GPT2Model" or config.flag("tie_word_embeddings", True),
        mlp_width=4 * width if config.values.get("n_inner") is None else config.size("n_inner"),
        activation=config.activation("activation_function", "gelu_new"),
        eps=config.number("layer_norm_epsilon", 1e-5),
    )


def _rope(config: _Config) -> tuple[float, dict[str, Any] | None]:
    """The base and the scaling of rotary positions, in the words of transformers 4 and 5."""
    found = config.values.get("rope_parameters") or config.values.get("rope_scaling") or {}
    if not isinstance(found, dict):
        raise config.refuse("rope_scaling", "an object")
    found = dict(found)
    base = found.pop("rope_theta", config.values.get("rope_theta", 10000.0))
    kind = found.pop("rope_type", found.pop("type", "default"))
    found.pop("type", None)
    if not isinstance(base, (int, float)) or isinstance(base, bool):
        raise config.refuse("rope_theta", "a number")
    return float(base), None if kind == "default" else {"type": kind, **found}


def _llama(config: _Config, name: str, num_classes: int | None) -> Module:
    config.only(pretraining_tp=1)
    context = config.size("max_position_embeddings", 2048)
    if name == "MistralForCausalLM" or config.flag("use_sliding_window", False):
        if config.values.get("sliding_window") is not None:
            context = min(context, config.size("sliding_window"))
    heads = config.size("num_attention_heads", 32)
    base, scaling = _rope(config)
    qwen = name == "Qwen2ForCausalLM"
    bias = config.flag("attention_bias", False)
    return Llama(
        config.size("vocab_size", 32000),
        context,
        config.size("hidden_size", 4096),
        config.size("num_hidden_layers", 32),
        heads,
        config.size("intermediate_size", 11008),
        heads if config.values.get("num_key_value_heads") is None else config.size("num_key_value_heads"),
        None if config.values.get("head_dim") is None else config.size("head_dim"),
        config.activation("hidden_act", "silu"),
        config.number("rms_norm_eps", 1e-6),
        base,
        scaling,
        config.flag("tie_word_embeddings", False),
        qkv_bias=True if qwen else bias,
        out_bias=False if qwen else bias,
        mlp_bias=config.flag("mlp_bias", False),
    )


def _vit(config: _Config, name: str, num_classes: int | None) -> Module:
    config.only(hidden_act="gelu", qkv_bias=True)
    if name == "ViTModel" and num_classes is None:
        msg = f"hub.load: {config.path}: ViTModel has no last layer; give num_classes for a new one"
        raise ValueError(msg)
    return ViT(
        config.size("image_size", 224),
        config.size("patch_size", 16),
        config.size("num_hidden_layers", 12),
        config.size("num_attention_heads", 12),
        config.size("hidden_size", 768),
        config.size("intermediate_size", 3072),
        config.number("hidden_dropout_prob", 0.0),
        config.number("attention_probs_dropout_prob", 0.0),
        config.classes() if num_classes is None else num_classes,
        config.size("num_channels", 3),
        config.number("layer_norm_eps", 1e-12),
    )


def _resnet(config: _Config, name: str, num_classes: int | None) -> Module:
    config.only(hidden_act="relu", downsample_in_first_stage=False, downsample_in_bottleneck=False)
    depths = config.values.get("depths", [3, 4, 6, 3])
    widths = config.values.get("hidden_sizes", [256, 512, 1024, 2048])
    kind = config.values.get("layer_type", "bottleneck")
    if kind not in ("basic", "bottleneck"):
        raise config.refuse("layer_type", "'basic' or 'bottleneck'")
    if not isinstance(depths, list) or not all(isinstance(n, int) and 1 <= n < 1000 for n in depths):
        raise config.refuse("depths", "a list of integers ≥ 1")
    width = config.size("embedding_size", 64)
    if widths != (
        made := [width * (4 if kind == "bottleneck" else 1) << stage for stage in range(len(depths))]
    ):
        raise config.refuse(
            "hidden_sizes", f"{made}: each stage twice the one before, from embedding_size on"
        )
    return ResNet(
        depths,
        kind,
        config.classes() if num_classes is None else num_classes,
        config.size("num_channels", 3),
        width,
    )


_FAMILIES: dict[str, Callable[[_Config, str, int | None], Module]] = {
    **dict.fromkeys(_BERT_HEADS, _bert),
    **dict.fromkeys(("GPT2LMHeadModel", "GPT2Model"), _gpt2),
    **dict.fromkeys(("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"), _llama),
    **dict.fromkeys(("ViTForImageClassification", "ViTModel"), _vit),
    "ResNetForImageClassification": _resnet,
}
_WITH_CLASSES = {
    "BertForSequenceClassification", "BertForTokenClassification", "ResNetForImageClassification", "ViTForImageClassification", "ViTModel",
}  # fmt: skip
