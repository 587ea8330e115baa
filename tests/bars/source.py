"""A data source that reads nothing, for run files of tests that start after ingest."""

from gpu_pipeline.core.plugins import Options


class Config(Options):
    """Nothing to say."""


def read(config, request):
    return iter(())
