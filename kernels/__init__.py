"""Tensors in, tensors out: one op per file, with its meaning, the plain loop that defines it, and its kernels.

The package imports nothing else of this project, needs no GPU to be imported, and compiles nothing until an op is
called.
"""
