"""Labels: one file each; a label says when it ends.

A label is a module with a docstring, a `Config` and `make(bars, config, classes) -> Labels` over complete bars of one
series; `classes` is `binary` or `codes`. Row i may use bars up to i for its barriers and later ones for its outcome,
and whether it has a label may not depend on the outcome: at the end of the data nothing is decided early.
"""
