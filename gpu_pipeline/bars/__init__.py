"""Bar types: one file each, deciding offsets; `_aggregate` turns offsets and trades into bars.

A bar type is a module with a docstring, a `Config` (its required fields carry an example) and

    step(trades, config, state) -> (ends [B] int64, state)

where `ends` are exclusive positions in the chunk and `state` maps names to int64 tensors (None before the first trade):
any chunking of the trades gives the same bars. `label(config)` is how file names write its parameter (50k, 1min).
`COLUMNS` names the columns of trades that `step` reads besides the times (all of them where it is missing); in parallel
runs the others are empty.
A type whose bars are more than their trades (stamps, empty bars) also has `finish(sums, next_ns, config) -> sums`.
"""
