"""The times that objects state -> whether a certificate is of the enrolment that stands now."""

from collections.abc import Mapping
from datetime import UTC, datetime

ENROLLED_ANNOTATION = "isthmus.dev/enrolled-at"
"""When the VM that a WorkloadEntry stands for enrolled: certificates from before are another VM's."""


def moment(text: str) -> datetime | None:
    """The moment that a field of an object states; None when it states none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    """A moment in UTC as objects state it: RFC 3339, whole seconds."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def enrolled_at(annotations: Mapping[str, str], created: str) -> str:
    """When the VM of a WorkloadEntry enrolled; of an entry that a person wrote, when it was made."""
    return annotations.get(ENROLLED_ANNOTATION) or created


def predates(signed_at: datetime, enrolled: str) -> bool:
    """Whether a certificate is older than the enrolment that stands now, or nobody can tell."""
    since = moment(enrolled)
    return since is None or signed_at < since
