"""Feature families: one file each, written as expressions that one engine folds over any chunking."""
