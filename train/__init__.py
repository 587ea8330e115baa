"""Training and judging models on finished datasets; sees datasets, never ticks."""
