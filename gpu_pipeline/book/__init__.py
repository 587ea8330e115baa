"""Book forms: one file each, ending in depth tensors on a fixed grid."""
