"""What can be made to go wrong, for a deployment until it heals or for one request."""

import msgspec

from devtools.simulator.pacing import Pace


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way for a call to go wrong; the fields combine. A chunk is one SSE event, or the whole of a JSON body."""

    times: int | None = None
    """After so many calls the fault is gone; None means until it is deleted."""
    status: int | None = None
    """Answer this error instead."""
    retry_after: int | str | None = None
    """The header `retry-after`: seconds, or an HTTP date as it is to be sent."""
    retry_after_ms: int | None = None
    missing_deployment: bool = False
    delay_ms: float = 0
    """Before the headers."""
    tokens_per_second: float | None = None
    first_token_ms: float | None = None
    stall_after_chunks: int = 0
    """With `stall_s`: write so many chunks, then pause."""
    stall_s: float = 0
    drop: bool = False
    """Reset the connection before the status line: the outcome of the call is unknown to whoever made it."""
    cut_after_chunks: int | None = None
    """Reset the connection after so many chunks."""
    cut_after_bytes: int | None = None
    """Reset the connection after so many body bytes, before compression."""
    error_after_chunks: int | None = None
    """End the 200 stream with an error event after so many chunks; 0 is before anything else."""
    filter_prompt: bool = False
    filter_completion: bool = False
    malformed_json: bool = False
    """Cut the JSON short, of a stream only the third event's; lengths and framing stay right."""
    gzip: bool = False
    huge_mb: float = 0
    """Pad the answer by so many MB, in a stream within the third event."""
    no_usage: bool = False
    crlf: bool = False
    no_space: bool = False
    """`data:{` instead of `data: {`."""
    comments: bool = False
    """An SSE comment before each event."""
    split_bytes: int = 0
    """Write the body in pieces of so many bytes; 1 cuts at every byte."""
    spillover: str | None = None
    """The standard deployment that served in place of the provisioned one that was asked."""
    ratelimit: str | None = None
    """`absent`, or the value that the `x-ratelimit-*` headers are to have, such as -1 or 0."""

    def pace(self, base: Pace) -> Pace:
        """Returns the pace with what this fault slows down."""
        return msgspec.structs.replace(
            base,
            tokens_per_second=base.tokens_per_second if self.tokens_per_second is None else self.tokens_per_second,
            first_token_ms=base.first_token_ms if self.first_token_ms is None else self.first_token_ms,
        )


HEALTHY = Fault()


class FaultBoard:
    """The faults in force. A target is `deployment`, `resource:deployment`, `resource:*` or `*`."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def set(self, target: str, fault: Fault) -> None:
        """Puts a fault in force, in place of the target's previous one."""
        self._faults[target] = fault

    def clear(self, target: str | None = None) -> None:
        """Heals the target, or all of them."""
        if target is None:
            self._faults.clear()
        else:
            self._faults.pop(target, None)

    def all(self) -> dict[str, Fault]:
        """Returns what is in force, by target."""
        return dict(self._faults)

    def take(self, resource: str, deployment: str) -> Fault:
        """Returns the fault of one call and counts it off; the most exact target wins."""
        for target in (f"{resource}:{deployment}", f"{resource}:*", deployment, "*") if self._faults else ():
            fault = self._faults.get(target)
            if fault is not None:
                self._count_off(target, fault)
                return fault
        return HEALTHY

    def _count_off(self, target: str, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times <= 1:
            del self._faults[target]
        else:
            self._faults[target] = msgspec.structs.replace(fault, times=fault.times - 1)
