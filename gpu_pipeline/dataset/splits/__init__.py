"""Splits: one file each, dividing samples in decision order."""
