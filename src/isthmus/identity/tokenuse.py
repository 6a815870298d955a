"""Who has a join token: the first key that uses it, until that same key gives it back.

    unused ─▶ used by a key ─▶ its join failed, and the same key says so ─▶ unused

Both changes run inside the store's writer, so that of two at once one wins.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Object
from isthmus.identity.refusal import Refused
from isthmus.identity.times import moment, written

NEW_TOKEN = "create a new one: isthmus token create --group {}"
SETTLING = timedelta(seconds=2)
"""How long a token rests that was given back. Certificates tell whole seconds: one of the failed join must be
older than the next enrolment, by which it is refused. The second of the two is for a slow disk."""

_OF_USE = frozenset({"usedBy", "usedAt", "workload"})

Change = Callable[[Object | None], Object | None]


class NotGivenBack(Exception):
    """The token stays as it is; the text, for the caller, says why and no more."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a token: by which key, when. The first use binds the token to the key."""

    pin: str
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal."""
    at: datetime

    def of(self, seen: Object, entry: Object, before: str) -> Change:
        """The token's next state when it is still free or this key's own; the writer calls it.

        `before` is the workload that the key enrolled as, which is gone when it is another than `entry`.
        """

        def change(token: Object | None) -> Object:
            if token is None or token.meta.uid != seen.meta.uid:
                raise Refused(
                    401, "this control plane does not know the join token", "it was deleted just now"
                )
            spec, status = token.spec, token.status
            assert isinstance(spec, JoinTokenSpec)
            hint = "a token is for one VM; " + NEW_TOKEN.format(f"{token.key.namespace}/{spec.group}")
            if not status.get("usedBy"):
                if rest_s(token, self.at) > 0:
                    error = f"the join token was given back at {status['givenBackAt']}: it rests for a moment"
                    raise Refused(409, error, "try again; or was the control plane's clock set back?")
                kept = {name: status[name] for name in status if not name.startswith("givenBack")}
                used = {"usedBy": self.pin, "usedAt": written(self.at), "workload": entry.key.name}
                return replace(token, status={**kept, **used})
            if status["usedBy"] != self.pin:
                raise Refused(409, f"the join token was already used at {status.get('usedAt')}", hint)
            if status.get("workload") not in (before, entry.key.name):
                raise Refused(409, "the join token is being used with another address of this VM", hint)
            return replace(token, status={**status, "workload": entry.key.name})

        return change


def rest_s(token: Object, now: datetime) -> float:
    """Seconds until a token that was given back may be used again; 0 or less: now."""
    given_back = moment(str(token.status.get("givenBackAt") or ""))
    return (given_back + SETTLING - now).total_seconds() if given_back else 0.0


def given_back(pin: str, workload: str, now: Callable[[], datetime]) -> Change:
    """The token unused again, if this key used it for this workload and it is still good; else NotGivenBack.

    Saying so twice changes nothing more: the first answer may have been lost.
    """

    def change(token: Object | None) -> Object:
        status = token.status if token is not None else {}
        again = not status.get("usedBy") and status.get("givenBackBy") == pin
        own = status.get("usedBy") == pin and status.get("workload") == workload
        if token is None or not (own or again):
            # whoever holds another key learns nothing of the token
            raise NotGivenBack("it is not this key's")
        spec, at = token.spec, now().astimezone(UTC)
        assert isinstance(spec, JoinTokenSpec)
        expires = moment(spec.expires_at)
        if expires is None or at >= expires:
            raise NotGivenBack(f"it expired at {spec.expires_at or 'an unknown time'}")
        if again:
            return token
        free = {name: status[name] for name in status if name not in _OF_USE}
        return replace(token, status={**free, "givenBackBy": pin, "givenBackAt": written(at)})

    return change
