"""Models: one file each, single-device."""
