"""Bar types: one file each, deciding offsets; `_aggregate` turns offsets and trades into bars."""
