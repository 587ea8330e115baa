"""`python -m gpu_pipeline` is `gpu-pipeline`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command; loading it takes seconds, in which a user may already change their mind."""
    try:
        from gpu_pipeline.cli import main as command

        return command()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
