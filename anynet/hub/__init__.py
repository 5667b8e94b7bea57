"""Models from elsewhere: checkpoints of Hugging Face that are on disk, with their tokenizers.

Nothing is downloaded, and nothing in a file is run. Files of weights by name alone: `anynet.models.load_weights`.
"""

from anynet.hub.hugging_face import load, tokenizer

__all__ = ["load", "tokenizer"]
