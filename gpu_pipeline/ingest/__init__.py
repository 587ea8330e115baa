"""Data sources: one file each, all ending in the same clean trades."""
