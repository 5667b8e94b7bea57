"""Just-in-time compilation, one idea at three sizes: what runs again and again on arrays of the same forms is traced once,
with its gradient, and from then on run as machine code while its guards hold.

    specialize   one operation
    fused        a function of Tensors as one node of the graph: the layers of a `Sequential`
    compile      a whole training step
    guards       what of Python's world must be unchanged for a compiled step to be valid
"""
