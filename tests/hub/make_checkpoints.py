"""Writes `checkpoints/`: small networks of Hugging Face's transformers with random weights, and what they give.

Run where transformers and PyTorch are installed: `python tests/hub/make_checkpoints.py` (the files there: transformers 5.24).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as t
from safetensors.numpy import save_file

FOLDER = Path(__file__).with_name("checkpoints")
SMALL = {
    "vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 12,
    "max_position_embeddings": 10,
}  # fmt: skip
GPT = {"vocab_size": 13, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 10}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
rng = np.random.default_rng(0)
TOKENS = rng.integers(0, 13, (2, 7))
MASK = np.ones((2, 7), np.int64)
MASK[1, 5:] = 0
SEGMENTS = np.repeat([[0, 0, 0, 1, 1, 1, 1]], 2, axis=0)
PICTURES = rng.standard_normal((2, 3, 16, 16)).astype("float32")
BERT_INPUTS = {"input_ids": TOKENS, "attention_mask": MASK, "token_type_ids": SEGMENTS}


def write(
    name: str, model: Any, inputs: dict[str, Any], outputs: Callable[[Any], Any], form: str = "whole"
) -> None:
    """A checkpoint, its inputs and its outputs; `form` is whole, shards, bin or bin-shards."""
    torch.manual_seed(len(name))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    for key, buffer in model.named_buffers():
        if "running_var" in key:
            buffer.uniform_(0.5, 1.5)
        elif "running_mean" in key:
            buffer.normal_()
    model.eval()
    place = FOLDER / name
    shutil.rmtree(place, ignore_errors=True)
    model.save_pretrained(place, **({"max_shard_size": "3KB"} if form == "shards" else {}))
    if form == "bin":
        torch.save(model.state_dict(), place / "pytorch_model.bin")
        (place / "model.safetensors").unlink()
    (place / "generation_config.json").unlink(missing_ok=True)
    with torch.no_grad():
        found = outputs(model(**{k: torch.tensor(v) for k, v in inputs.items()}))
    found = found if isinstance(found, tuple) else (found,)
    stored = {f"input_{i}": np.ascontiguousarray(v) for i, v in enumerate(inputs.values())}
    save_file(
        stored | {f"output_{i}": np.ascontiguousarray(y.numpy()) for i, y in enumerate(found)},
        place / "expected.tensors",
    )


def logits(found: Any) -> Any:
    return found.logits


def main() -> None:
    """All of them."""
    bert, labelled = t.BertConfig(**SMALL), t.BertConfig(**SMALL, num_labels=5, hidden_act="gelu_new")
    write("bert", t.BertModel(bert), BERT_INPUTS, lambda y: (y.last_hidden_state, y.pooler_output))
    write("bert-masked", t.BertForMaskedLM(bert), BERT_INPUTS, logits, "bin")
    write("bert-pretraining", t.BertForPreTraining(bert), BERT_INPUTS, lambda y: y.prediction_logits)
    write("bert-classes", t.BertForSequenceClassification(labelled), BERT_INPUTS, logits)
    write("bert-tokens", t.BertForTokenClassification(labelled), BERT_INPUTS, logits)
    write(
        "bert-span",
        t.BertForQuestionAnswering(bert),
        BERT_INPUTS,
        lambda y: torch.stack((y.start_logits, y.end_logits), -1),
    )
    texts = {"input_ids": TOKENS}
    write("gpt2", t.GPT2LMHeadModel(t.GPT2Config(**GPT)), texts, logits)
    write("gpt2-bin", t.GPT2LMHeadModel(t.GPT2Config(**GPT)), texts, logits, "bin")
    write("gpt2-shards", t.GPT2LMHeadModel(t.GPT2Config(**GPT)), texts, logits, "shards")
    untied = {"tie_word_embeddings": False, "n_inner": 12, "activation_function": "gelu"}
    write("gpt2-untied", t.GPT2LMHeadModel(t.GPT2Config(**GPT, **untied)), texts, logits)
    grouped = SMALL | {"num_key_value_heads": 2}
    write("llama", t.LlamaForCausalLM(t.LlamaConfig(**SMALL)), texts, logits)
    write("llama-tied", t.LlamaForCausalLM(t.LlamaConfig(**grouped, tie_word_embeddings=True)), texts, logits)
    biases = {"head_dim": 6, "attention_bias": True, "mlp_bias": True}
    write("llama-biases", t.LlamaForCausalLM(t.LlamaConfig(**SMALL, **biases)), texts, logits)
    write(
        "llama-3",
        t.LlamaForCausalLM(t.LlamaConfig(**(grouped | {"head_dim": 8}), rope_parameters=LLAMA3)),
        texts,
        logits,
    )
    linear = {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}
    write("llama-linear", t.LlamaForCausalLM(t.LlamaConfig(**SMALL, rope_parameters=linear)), texts, logits)
    write("mistral", t.MistralForCausalLM(t.MistralConfig(**grouped, sliding_window=8)), texts, logits)
    write("qwen2", t.Qwen2ForCausalLM(t.Qwen2Config(**grouped)), texts, logits)
    pictures = {"pixel_values": PICTURES}
    sizes = {
        k: SMALL[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    }
    write(
        "vit",
        t.ViTForImageClassification(t.ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3)),
        pictures,
        logits,
    )
    for kind, width in (("basic", 4), ("bottleneck", 16)):
        config = t.ResNetConfig(
            embedding_size=4, hidden_sizes=[width, 2 * width], depths=[1, 2], layer_type=kind, num_labels=3
        )
        write(f"resnet-{kind}", t.ResNetForImageClassification(config), pictures, logits)


if __name__ == "__main__":
    main()
