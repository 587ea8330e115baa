"""Selectors: one file each; a step of a feature selection prunes columns, ranks them or reports on them."""
