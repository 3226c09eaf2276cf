"""Every price and size of recorded files that no source of ours reads, as the venue wrote them.

For `tests/instruments`: `python -m tests.recorded_numbers` finds exponents, tick and lot of each
instrument and writes its file anew. Standard `json`, `csv` and `struct`; numbers stay text or integers.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import math
import re
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa


class Number(NamedTuple):
    """A price and a size of a symbol, decimal text; empty where there is none.

    `free` prices are those of trades that may print between ticks.
    """

    symbol: str
    price: str = ""
    qty: str = ""
    free: bool = False


Numbers = Iterator[Number]


def _json(text: str | bytes) -> Any:
    return json.loads(text, parse_float=str, parse_int=str)


def _levels(symbol: str, *sides: Any, at: int = 0) -> Numbers:
    for side in sides:
        for level in side or ():
            yield Number(symbol, level[at], level[at + 1])


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Requests with their answers, and messages: `url` is empty for these."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            url, arrow, rest = line.partition(" -> ") if line.startswith("http") else ("", "", line)
            _, _, payload = rest.partition(": ")
            if not line.startswith("wss:") and payload.strip()[:1] in {"{", "["}:
                yield url if arrow else "", _json(payload)


# -- venues of `ws_recordings`


def _binance(path: Path) -> Numbers:
    for url, told in _lines(path):
        if url:
            yield from _levels(re.findall(r"symbol=(\w+)", url)[0], told.get("bids"), told.get("asks"))
            continue
        data = told.get("data", {})
        kind = data.get("e", "bookTicker" if "bookTicker" in told.get("stream", "") else "")
        if kind == "depthUpdate":
            yield from _levels(data["s"], data["b"], data["a"])
        elif kind in {"trade", "aggTrade"}:
            yield Number(data["s"], data["p"], data["q"])
        elif kind == "bookTicker":
            yield from _levels(data["s"], [(data["b"], data["B"]), (data["a"], data["A"])])


def _bitget(path: Path) -> Numbers:
    for _, told in _lines(path):
        about = told.get("arg", {})
        for item in told.get("data", ()):
            if about.get("channel") == "books":
                yield from _levels(about["instId"], item["asks"], item["bids"])
            elif about.get("channel") == "trade":
                yield Number(about["instId"], item[1], item[2])


def _bitmex(path: Path) -> Numbers:
    for _, told in _lines(path):
        if told.get("table") in {"orderBookL2", "trade"}:
            for item in told["data"]:
                price = item.get("price", "")
                yield Number(item["symbol"], f"{Decimal(price):f}" if price else "", item.get("size", ""))


def _coinbase(path: Path) -> Numbers:
    for _, told in _lines(path):
        match told.get("type"):
            case "snapshot":
                yield from _levels(told["product_id"], told["asks"], told["bids"])
            case "l2update":
                yield from _levels(told["product_id"], told["changes"], at=1)
            case "match" | "last_match":
                yield Number(told["product_id"], told["price"], told["size"])


def _deribit(path: Path) -> Numbers:
    for _, told in _lines(path):
        data = told.get("params", {}).get("data", {})
        for item in data if isinstance(data, list) else [data] if data else []:
            name = item["instrument_name"]
            if "bids" in item:
                yield from _levels(name, item["bids"], item["asks"], at=1)
            elif "best_bid_price" in item:
                for side in ("bid", "ask"):
                    yield Number(name, item[f"best_{side}_price"], item[f"best_{side}_amount"])
            elif "amount" in item:
                yield Number(name, item["price"], item["amount"])


def _gateio(path: Path) -> Numbers:
    for url, told in _lines(path):
        if url:
            pair = re.findall(r"currency_pair=(\w+)", url)
            yield from _levels(pair[0], told["asks"], told["bids"]) if pair and "asks" in told else ()
            continue
        result = told.get("result", {})
        if told.get("channel") == "spot.order_book_update" and "s" in result:
            yield from _levels(result["s"], result["b"], result["a"])
        elif told.get("channel") == "spot.trades" and "price" in result:
            yield Number(result["currency_pair"], result["price"], result["amount"])


def _kraken(path: Path) -> Numbers:
    for _, told in _lines(path):
        if isinstance(told, list):
            *parts, channel, pair = told[1:]
            for part in parts:
                if channel == "trade":
                    yield from _levels(pair, part)
                elif channel.startswith("book"):
                    yield from _levels(pair, *(part[key] for key in ("as", "bs", "a", "b") if key in part))


def _kucoin(path: Path) -> Numbers:
    for url, told in _lines(path):
        data = told.get("data") or {}
        if url:
            pair = re.findall(r"symbol=([\w-]+)", url)
            yield from _levels(pair[0], data["asks"], data["bids"]) if pair and "asks" in data else ()
        elif told.get("subject") == "trade.l2update":
            yield from _levels(data["symbol"], data["changes"]["asks"], data["changes"]["bids"])
        elif told.get("subject") == "trade.l3match":
            yield Number(data["symbol"], data["price"], data["size"])


def _okx(path: Path) -> Numbers:
    for _, told in _lines(path):
        about = told.get("arg", {})
        for item in told.get("data", ()):
            if about["channel"] == "books":
                yield from _levels(about["instId"], item["asks"], item["bids"])
            elif about["channel"] == "trades":
                yield Number(item["instId"], item["px"], item["sz"])


def _shifted(digits: str, places: int) -> str:
    text = digits.rjust(places + 1, "0")
    return f"{text[:-places]}.{text[-places:]}" if places else text


def _phemex(path: Path) -> Numbers:
    """Prices are integers of 10^-4, of spot symbols (`s...`) 10^-8; sizes are contracts, or 10^-8 too."""
    for _, told in _lines(path):
        symbol = told.get("symbol", "")
        price, qty = (8, 8) if symbol.startswith("s") else (4, 0)
        book = told.get("book", {})
        for level in [*book.get("asks", ()), *book.get("bids", ())]:
            yield Number(symbol, _shifted(level[0], price), _shifted(level[1], qty))
        for trade in told.get("trades", ()):
            yield Number(symbol, _shifted(trade[2], price), _shifted(trade[3], qty))


# -- other folders


def _hourly(path: Path) -> Numbers:
    told = _json(gzip.decompress(path.read_bytes()))
    for item in [told] if isinstance(told, dict) else told:
        if "p" in item:
            yield Number("ETHBTC", item["p"], item["q"])
        else:
            yield from _levels("ETHBTC", *(item[key] for key in ("bids", "asks", "b", "a") if key in item))


def _hyperliquid(path: Path) -> Numbers:
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        told = _json(line.partition(" ")[2])
        for item in told["data"] if isinstance(told["data"], list) else [told["data"]]:
            for level in [level for side in item.get("levels", ()) for level in side]:
                yield Number(item["coin"], level["px"], level["sz"])
            if "px" in item:
                yield Number(item["coin"], item["px"], item["sz"])


def _bybit(path: Path) -> Numbers:
    with zipfile.ZipFile(path) as archive:
        for line in archive.read(archive.namelist()[0]).splitlines():
            data = _json(line)["data"]
            yield from _levels(data["s"], data["b"], data["a"])


def _bitstamp(path: Path) -> Numbers:
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    if path.name.endswith(".csv.xz"):
        for row in csv.DictReader(lines):
            yield Number("BTCUSD", row["price"], _shifted(row["volume"], 8))
        return
    for line in lines:
        _, kind, text = line.split(" ", 2)
        told = _json(text)
        if kind == "order_book":
            yield from _levels("BTCUSD", told["bids"], told["asks"])
        else:  # trades are printed floats
            price, qty = Decimal(told["price"]), Decimal(told["amount"])
            yield Number("BTCUSD", f"{price:.2f}", f"{qty:.8f}")


def _tardis(path: Path) -> Numbers:
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        for name, value in row.items():
            if "price" in name:
                yield Number(row["symbol"], value)
            elif "amount" in name:
                yield Number(row["symbol"], "", value)


def _globex(path: Path) -> Numbers:
    return _databento(path, b"GLBX.MDP3")


def _nasdaq(path: Path) -> Numbers:
    if not path.name.endswith(".csv.gz"):
        yield from _databento(path, b"XNAS.ITCH")
        return
    for row in csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()):
        for name, value in row.items():
            if value and (name == "price" or "_px_" in name):
                yield Number(row["symbol"], value)
            elif value and (name == "size" or "_sz_" in name):
                yield Number(row["symbol"], "", value)


# -- binary files

_UNDEFINED: Final = (1 << 63) - 1


def _databento(path: Path, dataset: bytes) -> Numbers:
    """Prices are integers of 10^-9. Of other kinds of records there is the symbol alone."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    if data[:3] != b"DBN" or data[8:24].rstrip(b"\0") != dataset:
        return
    symbols = _dbn_symbols(data)
    at = 8 + struct.unpack_from("<I", data, 4)[0]
    while at < len(data):
        size, kind, _, instrument_id = struct.unpack_from("<BBHI", data, at)
        record, at = data[at : at + 4 * size], at + 4 * size
        symbol = symbols.get(str(instrument_id))
        if symbol is None:
            continue  # the header names none, or others
        if kind == 160:  # an order
            price, qty = struct.unpack_from("<qI", record, 24)
            yield _nanos(symbol, price, qty)
        elif kind in {0, 1, 10, 177, 192, 193, 194, 195, 196}:  # trades, quotes, levels
            yield _nanos(symbol, *struct.unpack_from("<qI", record, 16))
            for place in range(48, len(record), 32):
                bid, ask, bid_qty, ask_qty = struct.unpack_from("<qqII", record, place)
                yield _nanos(symbol, bid, bid_qty)
                yield _nanos(symbol, ask, ask_qty)
        elif 32 <= kind <= 36:  # bars
            *prices, qty = struct.unpack_from("<qqqqQ", record, 16)
            for price in prices:
                yield _nanos(symbol, price, qty)
        else:
            yield Number(symbol)


def _nanos(symbol: str, price: int, qty: int) -> Number:
    if price == _UNDEFINED:
        return Number(symbol)
    sign = "-" if price < 0 else ""
    return Number(symbol, sign + _shifted(str(abs(price)), 9), str(qty))


def _dbn_symbols(data: bytes) -> dict[str, str]:
    """The symbol of each instrument id, from the header."""
    version = data[3]
    width = 22 if version == 1 else struct.unpack_from("<H", data, 8 + 45)[0]
    place = 8 + 100
    place += 4 + struct.unpack_from("<I", data, place)[0]

    def text() -> str:
        nonlocal place
        place += width
        return data[place - width : place].rstrip(b"\0").decode()

    def count() -> int:
        nonlocal place
        place += 4
        return int(struct.unpack_from("<I", data, place - 4)[0])

    for _ in range(3):  # those asked for, found in part, and not at all
        for _ in range(count()):
            text()
    found: dict[str, str] = {}
    for _ in range(count()):
        symbol = text()
        for _ in range(count()):
            place += 8
            found[text()] = symbol
    return found


def _iex(path: Path) -> Numbers:
    """Prices are integers of 10^-4. A symbol that has none of its own is told alone."""
    data = gzip.decompress(path.read_bytes())
    at = 24
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        packet, at = data[at + 16 : at + 16 + size], at + 16 + size
        place = 14 + 20 + 8 + 40
        while place + 2 <= len(packet):
            length = struct.unpack_from("<H", packet, place)[0]
            message, place = packet[place + 2 : place + 2 + length], place + 2 + length
            if len(message) < 18 or message[:1] not in b"85TBDHOPXA":
                continue
            symbol = message[10:18].decode().strip()
            if message[:1] in b"85T" and len(message) >= 30:
                qty, price = struct.unpack_from("<Iq", message, 18)
                yield Number(symbol, _shifted(str(price), 4), str(qty), message[:1] == b"T")
            else:
                yield Number(symbol)


class Recorded(NamedTuple):
    """An instruments file: the venue it names, the files below the shared folder, and how they are read."""

    venue: str
    files: tuple[str, ...]
    read: Callable[[Path], Numbers]

    def numbers(self, root: Path, most: int | None = None) -> Numbers:
        """What is in each file; with `most` its first numbers, without symbols that stand alone."""
        for name in self.files:
            for path in sorted(root.glob(name)):
                if most is None:
                    yield from self.read(path)
                else:
                    yield from islice((one for one in self.read(path) if one.price or one.qty), most)


_WS: Final = "ws_recordings/"
_SCHEMAS: Final = "databento/dbn_schemas/*.dbn*"
RECORDED: Final = {
    "binance_hourly": Recorded("binance-spot", ("binance_hourly/*.json.gz",), _hourly),
    "binance_ws": Recorded("binance-spot", (_WS + "BINANCE.*.gz",), _binance),
    "binance_futures_ws": Recorded("binance-usdm", (_WS + "BINANCE_FUTURES.*.gz",), _binance),
    "bitget": Recorded("bitget", (_WS + "BITGET.*.gz",), _bitget),
    "bitmex": Recorded("bitmex", (_WS + "BITMEX.*.gz",), _bitmex),
    "bitstamp": Recorded("bitstamp", ("bitstamp_l3/*.xz",), _bitstamp),
    "bybit": Recorded("bybit-linear", ("bybit/*.zip",), _bybit),
    "coinbase": Recorded("coinbase", (_WS + "COINBASE.*.gz",), _coinbase),
    "databento_glbx": Recorded("cme-globex", ("databento/glbx/*.zst", _SCHEMAS), _globex),
    "databento_xnas": Recorded("nasdaq", ("databento/xnas/*.csv.gz", _SCHEMAS), _nasdaq),
    "deribit": Recorded("deribit", (_WS + "DERIBIT.*.gz",), _deribit),
    "gateio": Recorded("gateio", (_WS + "GATEIO.*.gz",), _gateio),
    "hyperliquid": Recorded("hyperliquid", ("binance_raw/hyperliquid/*.gz",), _hyperliquid),
    "iex": Recorded("iex", ("iex/DEEP10.pcap.gz",), _iex),
    "kraken": Recorded("kraken", (_WS + "KRAKEN.*.gz",), _kraken),
    "kucoin": Recorded("kucoin", (_WS + "KUCOIN.*.gz",), _kucoin),
    "okx": Recorded("okx", (_WS + "OKX.*.gz",), _okx),
    "phemex": Recorded("phemex", (_WS + "PHEMEX.*.gz",), _phemex),
    "tardis_binance": Recorded("binance-usdm", ("tardis_csv/binance-futures_*.csv",), _tardis),
    "tardis_bitmex": Recorded("bitmex", ("tardis_csv/bitmex_*.csv",), _tardis),
    "tardis_deribit": Recorded("deribit", ("tardis_csv/deribit_*.csv",), _tardis),
    "tardis_huobi": Recorded("huobi-dm-swap", ("tardis_csv/huobi-dm-swap_*.csv",), _tardis),
}
"""By the stem of the file in `tests/instruments`."""

FOLDER: Final = Path(__file__).parent / "instruments"
HEAD: Final = "# Found by `python -m tests.recorded_numbers`; README.md says in what.\n"
_STOCKS: Final = {"price_exponent": 4, "tick_size": "0.01", "lot_size": "1", "time_zone": "America/New_York"}
_WEEK: Final = '["mon", "tue", "wed", "thu", "fri"]'
_GLOBEX: Final = '["sun", "mon", "tue", "wed", "thu"]'
KNOWN: Final[dict[str, dict[str, Any]]] = {
    "bybit": {"book_levels": 500},
    "databento_glbx": {
        "price_exponent": 2,
        "lot_size": "1",
        "time_zone": "America/Chicago",
        "sessions": "[\n"
        f'  {{ state = "pre_open", opens = "16:45", closes = "17:00", days = {_GLOBEX} }},\n'
        f'  {{ state = "trading", opens = "17:00", closes = "16:00", days = {_GLOBEX} }},\n]',
    },
    "databento_xnas": _STOCKS
    | {
        "sessions": f'[\n  {{ state = "trading", opens = "04:00", closes = "20:00", days = {_WEEK} }},\n]',
        "book_levels": 10,
    },
    "hyperliquid": {"book_levels": 20},
    "iex": _STOCKS,
    "kraken": {"book_levels": 1000},
    "okx": {"book_levels": 400},
    "tardis_binance": {"book_levels": 25},
}
"""What no number tells: hours, levels that the feed shows; a least exponent, a largest tick and lot."""


class _Grid:
    """Numbers of one kind of one symbol: how many decimals they have, and what divides them."""

    def __init__(self) -> None:
        self.seen = set[Decimal]()

    def add(self, text: str) -> None:
        if text:
            self.seen.add(abs(Decimal(text)))

    @property
    def exponent(self) -> int:
        return (
            max((-int(n.normalize().as_tuple().exponent) for n in self.seen), default=0) if self.seen else 0
        )

    def step(self, digits: tuple[int, ...], largest: str | None) -> str | None:
        """The largest of these times a power of ten that divides all; of few numbers their precision."""
        numbers = [n for n in self.seen if n]
        if not numbers:
            return None
        exponent = max(0, self.exponent)
        unit = math.gcd(*(int(n.scaleb(exponent)) for n in numbers)) if len(numbers) >= _FEW else 1
        steps = [digit * 10**k for k in range(20) for digit in digits]
        found = Decimal(max(one for one in steps if unit % one == 0)).scaleb(-exponent)
        return f"{min(found, Decimal(largest)) if largest else found:f}"


_FEW: Final = 20


def table(stem: str, symbol: str, price: _Grid, qty: _Grid, free: _Grid) -> str:
    """The table of an instrument."""
    known = KNOWN.get(stem, {})
    fields: dict[str, object] = {
        "venue": f'"{RECORDED[stem].venue}"',
        "symbol": f'"{symbol}"',
        "price_exponent": max(price.exponent, free.exponent, known.get("price_exponent", 0)),
        "qty_exponent": max(0, qty.exponent),
    }
    for name, grid, digits in (("tick_size", price, (1, 2, 25, 5)), ("lot_size", qty, (1,))):
        if step := grid.step(digits, known.get(name)):
            fields[name] = f'"{step}"'
    if "time_zone" in known:
        fields["time_zone"] = f'"{known["time_zone"]}"'
    fields |= {name: known[name] for name in ("sessions", "book_levels") if name in known}
    return "[[instrument]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())


def tables(stem: str, root: Path) -> str:
    """An instruments file: what the recorded numbers say of each symbol."""
    grids = defaultdict[str, tuple[_Grid, _Grid, _Grid]](lambda: (_Grid(), _Grid(), _Grid()))
    for number in RECORDED[stem].numbers(root):
        price, qty, free = grids[number.symbol]
        (free if number.free else price).add(number.price)
        qty.add(number.qty)
    return HEAD + "".join("\n" + table(stem, symbol, *grids[symbol]) for symbol in sorted(grids))


if __name__ == "__main__":
    from tests.shared_data import ROOT

    for name in RECORDED:
        (FOLDER / f"{name}.toml").write_text(tables(name, ROOT), encoding="utf-8")
