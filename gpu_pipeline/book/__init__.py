"""Book forms: one file each, ending in depth tensors on a fixed grid.

A book form is a module with a docstring, a `Config`, `step(piece, config, state) -> (Depth, state)` and
`end(config, state, until_ns=None) -> (Depth, state)`: a fold over pieces of snapshots or events, whose state is None at
the beginning. A cell of the grid is given out once nothing later can change it, or at the end; any cut into pieces
gives the same. `end` gives the cells up to the last time, or up to a later one where other feeds went on; called again
with a still later one it goes on.
"""
