"""Schemas, configuration, errors, device choice and the store: what every stage shares."""
