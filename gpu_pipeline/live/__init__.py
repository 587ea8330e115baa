"""The live engine: trades and books in, model-ready rows out. The folds are those of the stages, with small chunks."""
