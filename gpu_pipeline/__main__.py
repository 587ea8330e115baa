"""`python -m gpu_pipeline` is `gpu-pipeline`."""

import sys

from gpu_pipeline.cli import main

sys.exit(main())
