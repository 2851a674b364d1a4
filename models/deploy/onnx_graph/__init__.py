"""Detectors as ONNX graphs of plain operators.

`trace.py` records the operators of a forward pass, `write.py` writes each as nodes of ONNX by the tables of
`elementwise.py`, `layers.py` and `shapes.py`; `grid.py` finds the tensors that 8 bits hold exactly, `int8.py` quantises
the others too, and `session.py` runs a file.
"""
