"""Tensors in, tensors out: one op per file, each with its meaning, a plain loop that defines it, and its implementations.

The package imports nothing else of this project, needs no GPU to be imported, and compiles nothing until an op is
called.
"""
