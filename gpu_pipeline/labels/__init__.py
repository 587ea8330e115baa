"""Labels: one file each; a label says when it ends."""
