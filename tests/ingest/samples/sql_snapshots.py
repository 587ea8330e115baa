"""A table of a PostgreSQL server: the rows of the sample files of `tall_snapshots`, in no order, prices as NUMERIC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.ingest.samples import tall_snapshots
from tests.ingest.samples.rows import Message
from tests.postgres import postgres

HOLDS = "book"


def write(folder: Path, messages: list[Message]) -> dict[str, Any]:
    server = postgres()
    tall_snapshots.write(folder, messages)
    rows = pq.read_table(folder)
    server.fill("sample", rows.take(np.random.default_rng(1).permutation(len(rows))))
    server.run("ALTER TABLE sample ALTER price TYPE numeric USING price::numeric")
    return {"uri": server.uri, "table": "public.sample"}
