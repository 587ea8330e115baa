"""Benchmarks: one file per op and per stage; `python -m bench OP`."""
