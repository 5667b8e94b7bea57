"""The public training scripts that are run: arguments for short forms."""

from __future__ import annotations

from typing import Any

__all__ = ["SCRIPTS"]


def _examples(name: str, *args: str, **more: Any) -> dict[str, Any]:
    return {"repository": "pytorch/examples", "script": f"{name}.py", "args": list(args), **more}


SCRIPTS: dict[str, dict[str, Any]] = {
    "examples: mnist": _examples("mnist/main", "--epochs", "1", "--batch-size", "8"),
    "examples: mnist_rnn": _examples("mnist_rnn/main", "--epochs", "1", "--batch-size", "8"),
    "examples: vae": _examples("vae/main", "--epochs", "1", "--batch-size", "8"),
}
