"""Weights of Keras, Flax and Haiku for `load_weights`: `files` (arrays by name, and the order of layers), `layouts` (their arrays here)."""

import os

# in the wheel both lie in an archive (hatch_build.py): who has no such files needs them neither open nor compiled
__path__.append(os.path.join(__path__[0], "inside.zip"))

SUFFIXES = (".keras", ".h5", ".hdf5", ".msgpack")
"""Of the files that are read."""

__all__ = ["SUFFIXES"]
