"""Scalers: one file each, fitted on training rows alone."""
