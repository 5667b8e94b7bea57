"""The just-in-time compiler, one file a pass, in the order of the data: trace → passes → memory plan → lowering → fusion → machine code.

It compiles a single operation, a whole `Sequential`, a compiled step and an optimizer's update.
"""
