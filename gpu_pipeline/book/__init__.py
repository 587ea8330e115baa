"""Book forms: one file each, ending in depth tensors on a fixed grid.

A book form is a module with a docstring, a `Config` and `make(snapshots, config) -> Depth`. What it makes of a history
that is cut at a time is the beginning of what it makes of the whole.
"""
