# ruff: noqa: E501 - messages and files are quoted whole
from __future__ import annotations

import gzip
import hashlib
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Trades
from gpu_pipeline.ingest import _csv, binance
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import read_trades

SPOT_MS = """\
3360943231,42283.58000000,0.00100000,42.28358000,1704067200000,True,True
3360943232,42283.58000000,0.04500000,1902.76110000,1704067200000,True,True
3360943233,42283.59000000,0.00036000,15.22209240,1704067200005,False,True
"""
SPOT_US = """\
4359000001,93576.00000000,0.00100000,93.57600000,1735689600014131,False,True
4359000002,93575.99000000,0.00005000,4.67879950,1735689600014131,True,True
"""
UM = """\
id,price,qty,quote_qty,time,is_buyer_maker
4462470031,42313.9,0.002,84.6278,1704067200044,true
4462470032,42314.0,0.106,4485.284,1704067200045,false
"""
UM_OLD = """\
42377944,9682.00,0.132,1278.02,1582329602111,false
42377945,9682.00,0.412,3988.98,1582329602116,false
"""
UM_CAMEL = """\
id,price,qty,quoteQty,time,isBuyerMaker
42377944,9682.00,0.132,1278.02,1582329602111,false
42377945,9682.00,0.412,3988.98,1582329602116,false
"""
CM = """\
id,price,qty,base_qty,time,is_buyer_maker
640100001,42300.1,25,0.05910151,1704067200133,true
640100002,42300.2,1,0.00236405,1704067200207,false
"""
CM_BARE = "\n".join(CM.splitlines()[1:]) + "\n"
AGG_SPOT = """\
2833418521,42283.58000000,0.04600000,3360943231,3360943232,1704067200000,True,True
2833418522,42283.59000000,0.00036000,3360943233,3360943233,1704067200005,False,True
"""
AGG_UM = """\
agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker
2001234567,42313.9,0.002,4462470031,4462470031,1704067200044,true
2001234568,42314.0,0.106,4462470032,4462470032,1704067200045,false
"""
AGG_UM_BARE = "\n".join(AGG_UM.splitlines()[1:]) + "\n"
COIN = {"inverse": True, "multiplier": 100, "quote": "USD"}


def read(path: Path | list[Path], **options: Any) -> Trades:
    return read_trades(path, source="binance", symbol="TEST", device="cpu", **options)


def zipped(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_csv", ".csv"), text)
    return path


def packed(path: Path, text: str) -> Path:
    if path.suffix == ".zip":
        return zipped(path, **{path.stem + "_csv": text})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


FORMATS = {
    "spot in ms": (
        SPOT_MS,
        {},
        [4228358, 4228358, 4228359],
        [100, 4500, 36],
        [0, 0, 5_000_000],
        [True, True, False],
        3360943231,
    ),
    "spot in us": (SPOT_US, {}, [9357600, 9357599], [100, 5], [0, 0], [False, True], 4359000001),
    "USD-M": (UM, {}, [423139, 423140], [2, 106], [0, 1_000_000], [True, False], 4462470031),
    "USD-M, old": (UM_OLD, {}, [9682, 9682], [132, 412], [0, 5_000_000], [False, False], 42377944),
    "USD-M, camel": (UM_CAMEL, {}, [9682, 9682], [132, 412], [0, 5_000_000], [False, False], 42377944),
    "COIN-M": (CM, COIN, [423001, 423002], [25, 1], [0, 74_000_000], [True, False], 640100001),
    "COIN-M, no header": (CM_BARE, COIN, [423001, 423002], [25, 1], [0, 74_000_000], [True, False], 640100001),
    "aggTrades, spot": (AGG_SPOT, {}, [4228358, 4228359], [4600, 36], [0, 5_000_000], [True, False], 2833418521),
    "aggTrades, USD-M": (AGG_UM, {}, [423139, 423140], [2, 106], [0, 1_000_000], [True, False], 2001234567),
    "aggTrades, no header": (AGG_UM_BARE, {}, [423139, 423140], [2, 106], [0, 1_000_000], [True, False], 2001234567),
}
FIRST_NS = {
    "spot in us": 1_735_689_600_014_131_000,
    "USD-M": 1_704_067_200_044_000_000,
    "USD-M, old": 1_582_329_602_111_000_000,
    "USD-M, camel": 1_582_329_602_111_000_000,
    "COIN-M": 1_704_067_200_133_000_000,
    "COIN-M, no header": 1_704_067_200_133_000_000,
    "aggTrades, USD-M": 1_704_067_200_044_000_000,
    "aggTrades, no header": 1_704_067_200_044_000_000,
}


@pytest.mark.parametrize("kind", [".csv", ".zip", ".csv.gz"])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_as_published(tmp_path: Path, name: str, kind: str) -> None:
    text, options, ticks, lots, since, makers, first_id = FORMATS[name]
    trades = read(packed(tmp_path / f"TEST{kind}", text), **options)
    first = FIRST_NS.get(name, 1_704_067_200_000_000_000)
    assert trades.price_ticks.tolist() == ticks
    assert trades.quantity_lots.tolist() == lots
    assert (trades.time_ns - first).tolist() == since
    assert trades.is_buyer_maker.tolist() == makers
    assert trades.trade_id.tolist() == list(range(first_id, first_id + len(ticks)))
    assert trades.report["quote_mismatches"] == 0 and trades.report["dropped"] == {}


def test_notional_of_coin_margined_contracts(tmp_path: Path) -> None:
    trades = read(packed(tmp_path / "a.csv", CM), **COIN)
    assert trades.notional.tolist() == [25, 1]
    assert trades.symbol.notional.exact(int(trades.notional.sum())) == Decimal(2600)
    wrong = read(packed(tmp_path / "a.csv", CM), **{**COIN, "multiplier": 10})
    assert wrong.report["quote_mismatches"] == 2


def test_months_in_ms_and_us_follow_each_other(tmp_path: Path) -> None:
    for month, text in (("2024-12", SPOT_MS), ("2025-01", SPOT_US)):
        zipped(tmp_path / f"TEST-trades-{month}.zip", **{f"TEST-trades-{month}_csv": text})
    trades = read(tmp_path)
    assert len(trades) == 5 and trades.report["times_set_back"] == 0
    assert trades.time_ns[3] == 1_735_689_600_014_131_000
    assert read(tmp_path / "{SYMBOL}-trades-*.zip").time_ns.equal(trades.time_ns)
    assert read([tmp_path / "TEST-trades-2024-12.zip"]).report["rows_in"] == 3


def test_members_of_a_zip_are_read_in_order_of_names(tmp_path: Path) -> None:
    lines = SPOT_MS.splitlines(keepends=True)
    path = zipped(tmp_path / "a.zip", b_csv=lines[2], a_csv="".join(lines[:2]), README="no data")
    assert read(path).trade_id.tolist() == [3360943231, 3360943232, 3360943233]


def test_a_checksum_beside_the_file_is_verified(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", a_csv=UM)
    assert read(path).report["checked"] == {"none there": 1}
    beside = tmp_path / "a.zip.CHECKSUM"
    beside.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.zip\n")
    assert read(path).report["checked"] == {"checksum": 1}
    beside.write_text("0" * 64 + "  a.zip\n")
    with pytest.raises(InputError) as caught:
        read(path)
    assert (
        str(caught.value)
        == f"{path}: its sha256 is not the one in a.zip.CHECKSUM; the file is damaged: download it again"
    )
    assert read(path, verify=False).report["checked"] == {"skipped": 1}
    beside.write_text("<html>")
    with pytest.raises(InputError) as caught:
        read(path)
    assert (
        str(caught.value) == f"{beside}: must begin with a sha256 in 64 hex digits (value '<html>'); download it again"
    )


def big_zip(path: Path) -> Path:
    rows = (f"{at},{100 + at % 7}.{at % 10},0.00{at % 9 + 1},0,{1_704_067_200_000 + at},true\n" for at in range(50_000))
    return zipped(path, a_csv="".join(rows))


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    whole = big_zip(tmp_path / "whole.zip").read_bytes()
    assert len(read(tmp_path / "whole.zip")) == 50_000
    middle = bytearray(whole)
    middle[len(middle) // 2] ^= 0xFF
    cases = {
        "cut.zip": whole[: len(whole) // 2],
        "flipped.zip": bytes(middle),
        "empty.zip": b"",
        "text.zip": b"<html>404</html>",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: cannot be unpacked: ") and "\n" not in message
        assert message.endswith("; the file is damaged or cut short: download it again")


def test_every_flipped_byte_of_a_small_archive_is_found_or_harmless(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", a_csv=UM)
    good, expected = path.read_bytes(), read(path)
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 0x41
        path.write_bytes(bytes(changed))
        try:
            trades = read(path)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert trades.notional.equal(expected.notional) and trades.time_ns.equal(expected.time_ns)


def test_the_damaged_gzip(market_data: Path) -> None:
    path = market_data / "corrupt" / "tardis_trades_2020-02-22_crlf_damaged.csv.gz"
    with pytest.raises(
        InputError, match=r"damaged\.csv\.gz: has no column for quantity; its columns are exchange, symbol"
    ):
        read(path)
    with pytest.raises(InputError, match=r"damaged\.csv\.gz: cannot be unpacked: "):
        read(path, columns={"quantity": "amount"})


def test_csv_of_another_vendor(market_data: Path) -> None:
    folder = market_data / "btcusdt_perp_trades_20200222"
    trades = read(folder / "slice_first_5000.csv", columns={"quantity": "amount"})
    columns = {"quantity": "amount", "trade_id": "id", "side": "side"}
    other = read_trades(folder / "trades.parquet", symbol="TEST", device="cpu", columns=columns, limit=5000)
    assert trades.symbol == other.symbol
    assert all(getattr(trades, name).equal(getattr(other, name)) for name in Trades.COLUMNS)


def test_an_encrypted_archive_and_one_without_csv(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", a_csv=UM)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.zip: is encrypted; unpack it first"):
        read(path)
    zipped(tmp_path / "b.zip", README="x")
    with pytest.raises(InputError, match=r"b\.zip: holds no CSV file; give the archive that the exchange publishes"):
        read(tmp_path / "b.zip")


BARE = "1,100.5,1,100.5,1704067200000,true\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty; download it again"),
        ("1,2,3\n", ": has 3 columns and no header, which is neither trades (6 or 7) nor aggTrades (7 or 8) (value '1,2,3'); convert it to Parquet and name its columns"),
        (CM, ": is a COIN-M file: its quantities are contracts; set inverse: true and multiplier (100 for BTCUSD, 10 for others) under symbols"),
        ("id,price,price,qty,time\n1,1,1,1,1704067200000\n", ": the header names a column twice (value 'price'); download it again"),
        ("id,price,time\n1,1,1704067200000\n", ": has no column for quantity; its columns are id, price, time; name it under columns, for example columns: {quantity: COLUMN}"),
        (BARE + "2,100.5,1\n", ", row 2: has 3 columns where 6 are due (value '2,100.5,1'); the file is damaged or of another kind: download it again"),
        (BARE + "2,12x,1,1,1704067200000,true\n", ", row 2: column price holds no number (value '12x'); the file is damaged or of another kind: download it again"),
        (BARE + "2.5,12,1,1,1704067200000,true\n", ", row 2: column id holds no whole number (value '2.5'); the file is damaged or of another kind: download it again"),
        (BARE + "2,12,1,1,1704067200000,maybe\n", ", row 2: column is_buyer_maker holds no true or false (value 'maybe'); the file is damaged or of another kind: download it again"),
        ("id,price,qty,quote_qty,time,is_buyer_maker\n\n" + BARE + "\n2,12,x,1,1704067200000,true\n", ", row 2: column qty holds no number (value 'x'); the file is damaged or of another kind: download it again"),
        (BARE + "2,nan,1,1,1704067200000,true\n", ", row 2: a price must be a number (value nan); mend the file, or set on_bad_row: drop"),
        (BARE + "2,inf,1,1,1704067200000,true\n", ", row 2: a price must be finite (value inf); mend the file, or set on_bad_row: drop"),
        (BARE + "2,-3,1,1,1704067200000,true\n", ", row 2: a price must be above 0 (value -3.0); mend the file, or set on_bad_row: drop"),
        (BARE + "2,3,,1,1704067200000,true\n", ", row 2: a quantity must be a number (value 'empty'); mend the file, or set on_bad_row: drop"),
        (BARE + "2,3,1,1,1704067200,true\n", ", row 2: a trade needs a time in the file's unit (value '1704067200 in a file of ms'); mend the file, or set on_bad_row: drop"),
        (BARE + ",3,1,1,1704067200000,true\n", ", row 2: a trade needs its id (value 'empty'); mend the file, or set on_bad_row: drop"),
        (BARE + "2,3,1,1,1704067200000,\n", ", row 2: a trade needs its side (buy or sell, true or false) (value 'empty'); mend the file, or set on_bad_row: drop"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}{message}"


def test_bad_rows_may_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(BARE + "2,nan,1,1,1704067200000,true\n3,5,1,5,1704067200000,\n4,5,1,5,1704067200000,false\n")
    trades = read(path, on_bad_row="drop")
    assert trades.trade_id.tolist() == [1, 4]
    assert trades.report["dropped"] == {"price_missing": 1, "side_missing": 1}


def test_trades_and_aggregates_do_not_mix(tmp_path: Path) -> None:
    first, second = packed(tmp_path / "a.csv", AGG_UM), packed(tmp_path / "b.csv", UM)
    with pytest.raises(InputError) as caught:
        read([first, second])
    assert (
        str(caught.value)
        == f"{second}: holds trades, but {first} does not; read trades or aggTrades: name one kind in path"
    )


def test_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    expected = read(packed(tmp_path / "a.csv", UM))
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + UM.replace("\n", "\r\n").encode())
    assert read(tmp_path / "b.csv").notional.equal(expected.notional)
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + UM_OLD.encode())
    assert read(tmp_path / "c.csv").trade_id.tolist() == [42377944, 42377945]


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = big_zip(tmp_path / "a.zip")
    whole = read(path)
    monkeypatch.setattr(_csv, "BLOCK_BYTES", 10_007)
    config = binance.Config(path=str(path))
    assert len(list(binance.read(config, ReadRequest("trades", "TEST", SymbolOptions())))) > 50
    pieces = read(path)
    assert all(getattr(whole, name).equal(getattr(pieces, name)) for name in Trades.COLUMNS)
    assert whole.report == pieces.report


def test_quoted_cells_are_cells(tmp_path: Path) -> None:
    quoted = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in UM.splitlines())
    for name, text in (("plain.csv", UM), ("quoted.csv", quoted), ("bare.csv", quoted.split("\n", 1)[1])):
        (tmp_path / name).write_text(text)
    read = [
        read_trades(tmp_path / name, source="binance", symbol="X", device="cpu")
        for name in ("plain.csv", "quoted.csv", "bare.csv")
    ]
    for other in read[1:]:
        for column in ("time_ns", "price_ticks", "quantity_lots", "trade_id", "is_buyer_maker"):
            assert getattr(other, column).tolist() == getattr(read[0], column).tolist()
