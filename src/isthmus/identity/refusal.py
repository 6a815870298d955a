"""What a VM is told that gets no certificate."""


class Refused(Exception):
    """An enrolment or renewal that does not happen: what is told to the VM, and the HTTP status that fits."""

    def __init__(self, status: int, error: str, hint: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint
