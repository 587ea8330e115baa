"""Streams, samples, order, splits and scalers: from features and labels to model input."""
