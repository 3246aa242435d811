"""One load from its preparation to its report: everything that `--under-load` does. Used by `deploy.cli.change`."""

import importlib.metadata
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final

from deploy.cli.gateway_client import GatewayClient, Trusted
from deploy.cli.load.shop import Shop
from deploy.cli.load.tally import Seen, Tally, Window
from deploy.cli.load.traffic import Traffic, Wanted, Where
from deploy.cli.load.watches import Watches
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh

RPS_MAX: Final = 2000.0
#: The load runs so long before anything is changed, so that there is something to compare with,
WARM_UP_S: Final = 2.0
#: and so long after the last change, so that what comes late is seen.
COOL_DOWN_S: Final = 3.0


class UnderLoad:
    """A load on a mesh for as long as the context lasts. Raises SignInError or RpcError where it cannot be prepared."""

    def __init__(self, mesh: Mesh, wanted: Wanted, *, say: Callable[[str], None] = lambda line: None) -> None:
        """`say` is told, a line each, what is done beside the calls."""
        self._mesh = mesh
        self._wanted = wanted
        self._say = say
        self._tally: Tally | None = None
        self._steps = ExitStack()
        self._ended = 0.0
        self._result: dict[str, Any] = {}

    def __enter__(self) -> "UnderLoad":
        with ExitStack() as steps:
            address = self._mesh.gateway
            client = GatewayClient.for_operator(address, self._mesh.secrets)
            steps.callback(client.close)
            shop = steps.enter_context(Shop(client, rps=self._wanted.rps))
            steps.callback(lambda: self._result.update(stock=_stock(shop)))
            trusted = Trusted.of(Layout(self._mesh.secrets.parent)) if address.startswith("https://") else None
            where = Where(address.removeprefix("https://"), trusted, importlib.metadata.version("weft"))
            self._tally = tally = Tally(time.monotonic())
            watches = Watches(where, shop, tally)
            steps.callback(lambda: self._result.update(tally.result(self._ended), streams=watches.result()))
            steps.enter_context(watches)
            steps.callback(self._calls_ended)
            steps.enter_context(Traffic(where, shop, tally, self._wanted))
            self._say(f"load       {self._wanted.rps:g} calls a second by {len(shop.users)} users")
            threading.Event().wait(WARM_UP_S)
            self._steps = steps.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            threading.Event().wait(COOL_DOWN_S)
        self._steps.close()

    def open(self) -> Window:
        """Begin to look at a part of the time."""
        assert self._tally is not None
        return self._tally.open(time.monotonic())

    def close(self, window: Window) -> Seen:
        """What was seen in it."""
        assert self._tally is not None
        return self._tally.close(window, time.monotonic())

    @property
    def result(self) -> Mapping[str, Any]:
        """What was seen of the load; complete when the context has ended."""
        return self._result

    @property
    def good(self) -> bool:
        """Whether no call and no stream failed, and nothing was lost."""
        if "stock" not in self._result:
            return False
        stock: Mapping[str, int] = self._result["stock"]
        return self._result["errors"] == 0 and stock["lost"] == stock["surplus"] == 0

    def _calls_ended(self) -> None:
        """Every call is answered; the streams go on until they have told of the last change."""
        self._ended = time.monotonic()


def _stock(shop: Shop) -> Mapping[str, int]:
    stock = shop.stock()
    return {**asdict(stock), "lost": stock.lost, "surplus": stock.surplus}


def lines(result: Mapping[str, Any]) -> Sequence[str]:
    """The report for people."""
    methods = ", ".join(f"{method} {count:,}" for method, count in result["methods"].items())
    latency = {name: "-" if value is None else f"{value:,.0f} ms" for name, value in result["latency_ms"].items()}
    streams, stock = result["streams"], result["stock"]
    ended = ", ".join(f"{code} {count}" for code, count in streams["ended"].items())
    resumed = f"resumed {streams['resumed']} times ({ended})" if ended else "never cut"
    found = [
        f"requests   {result['requests']:,} in {result['seconds']:.1f} s ({result['per_second']:.0f}/s): {methods}",
        f"errors     {result['errors']:,}",
        *(f"           {count:,} x {reason}" for reason, count in result["refusals"].items()),
        f"latency    p50 {latency['p50']}, p99 {latency['p99']}, longest {latency['max']}",
        f"worst gap  {result['worst_gap_s']:.3f} s without a success, {result['worst_gap_at_s']:.1f} s after the start",
        f"streams    {streams['open']} open, {streams['messages']} messages, {resumed}, "
        f"longest away {streams['longest_away_s']:.2f} s",
        f"stock      {stock['acknowledged']:,} orders of {stock['pieces']:,} pieces, {stock['left_stock']:,} gone: "
        f"{stock['lost']:,} lost, {stock['surplus']:,} too many",
    ]
    if result["repeated"]:
        again = ", ".join(f"{code} {count:,}" for code, count in result["repeated"].items())
        found.insert(2, f"repeated   {again}, on another connection")
    return found
