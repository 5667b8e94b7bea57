"""Files of other libraries, read without these: `hdf5_files` (Keras), `msgpack_files` (Flax)."""

import os

# in the wheel the readers lie in an archive (hatch_build.py): who has no such files needs them neither open nor compiled
__path__.append(os.path.join(__path__[0], "inside.zip"))
