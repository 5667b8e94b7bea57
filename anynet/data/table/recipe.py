"""How a table is trained where nothing is said: options of `fit` by the number of rows."""

from __future__ import annotations

from typing import Any

__all__ = ["recipe", "suited"]


def recipe(task: str, rows: int, validated: bool) -> dict[str, Any]:
    """Loss, metrics, optimizer, learning rate and its course, epochs and batch size, for so many rows to train on.

    About 3,000 updates, of few rows many times each: `fit` keeps the best weights where there are rows to validate. Where there are
    none, a third of the epochs, so that little is learned by heart.
    """
    batch_size = 32 if rows < 3_000 else 128 if rows < 10_000 else 256 if rows < 200_000 else 1024
    epochs = max(10, min(120, round(3_000 * batch_size / rows)))
    return {
        "loss": "cross_entropy" if task == "classification" else "mse",
        "metrics": ["accuracy"] if task == "classification" else ["r2"],
        "optimizer": "adamw",
        "lr": 3e-3,
        "scheduler": "onecycle",
        "clip_norm": 5.0,
        "epochs": epochs if validated or rows > 10_000 else max(10, epochs // 3),
        "batch_size": batch_size,
    }


def suited(rows: int, numbers: int, validated: bool) -> dict[str, Any]:
    """Settings of `TableMLP`: dropout where rows are few, no embedding of numbers where these are many."""
    return {
        "dropout": 0.0 if rows >= 20_000 else 0.1 if validated else 0.3,
        "embedding": "periodic" if numbers <= 200 else None,
    }
