"""A study: what one small compiled extension would give in the place of LLVM text that reads NumPy's structs."""
