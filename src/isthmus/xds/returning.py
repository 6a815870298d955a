"""Who had a proxy when an earlier process ended -> who is still waited for, for a while.

A control plane that has just started has no streams yet. Without this it would tell `Programmed` of a change
that not one of a thousand proxies has.
"""

from collections.abc import Callable, Iterable

from isthmus.envoy.resource import ProxyId
from isthmus.xds.verdicts import Answers


class Returning:
    """Proxies that have not come back, and until when (by the clock of the fleet) they may."""

    def __init__(self, proxies: Iterable[ProxyId] = (), until: float = 0.0) -> None:
        self._proxies = set(proxies)
        self._until = until

    def answers(
        self, present: Iterable[ProxyId], registered: Callable[[ProxyId], str | None], now: float
    ) -> list[Answers]:
        """One that tells of nothing for each that is registered, and was not `present` so far."""
        if not self._proxies:
            return []
        if now >= self._until:
            self._proxies.clear()
        self._proxies.difference_update(present)
        absent = [f"{proxy.workload}.{proxy.namespace}" for proxy in self._proxies if registered(proxy)]
        return [Answers(f"{name} (not back since the control plane started)", -1) for name in sorted(absent)]
