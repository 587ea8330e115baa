"""The recorded Binance feeds, put in order with plain pandas: snapshots by update id, never by their arrival."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Tick and lot of each instrument, as decimal places.
PLACES = {"spot_btcusdt": (2, 5), "spot_ethusdt": (2, 4), "usdm_btcusdt": (1, 3), "usdm_ethusdt": (2, 3)}


def parts(folder: Path, name: str) -> dict[str, Any]:
    """`depth`, `snapshot` and `bbo` frames of an instrument, with integer ticks and lots."""
    pandas, made = pytest.importorskip("pandas"), {}
    for part in ("depth", "snapshot", "bbo"):
        path = folder / "binance_feeds_20240808" / f"{name}_20240808_{part}.parquet"
        if not path.is_file():
            pytest.skip(f"no recorded feed at {path}")
        made[part] = pandas.read_parquet(path)
        for column in made[part].columns.intersection(["price", "bid", "ask", "qty", "bid_qty", "ask_qty"]):
            places = PLACES[name]["qty" in column]
            made[part][column] = np.rint(made[part][column] * 10**places).astype(np.int64)
    return made


def messages(feed: dict[str, Any], *, by_id: bool = True) -> Any:
    """One row per message: ids, is_snapshot, and the span [begin, stop) of its rows in `rows(feed)`.

    `by_id` puts the snapshot before the first message that does not end before it; otherwise it stands where it was
    recorded, as who resets the book on its arrival would have it.
    """
    depth, snapshot = feed["depth"], feed["snapshot"]
    begin = np.flatnonzero(depth.final_id.diff().ne(0)) + len(snapshot)
    columns = ["first_id", "final_id", "prev_final_id", "local_ts"]
    table = depth.loc[begin - len(snapshot), columns].fillna(-1).astype(np.int64)
    table["begin"], table["stop"] = begin, np.append(begin[1:], len(depth) + len(snapshot))
    table["is_snapshot"] = False
    seen = snapshot.iloc[0]
    first = [seen.last_update_id, seen.last_update_id, -1, seen.local_ts, 0, len(snapshot), True]
    reached = table.final_id >= seen.last_update_id if by_id else table.local_ts > seen.local_ts
    place = int(reached.to_numpy().argmax())
    pandas = pytest.importorskip("pandas")
    top = pandas.DataFrame([first], columns=table.columns)
    return pandas.concat([table[:place], top, table[place:]], ignore_index=True)


def rows(feed: dict[str, Any]) -> Any:
    """side, price and qty of the snapshot's levels, then of every level change."""
    return pytest.importorskip("pandas").concat(
        [feed[part][["side", "price", "qty"]] for part in ("snapshot", "depth")], ignore_index=True
    )
