"""Loaders: one file each; all give the same samples in the same order."""
