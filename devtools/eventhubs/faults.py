"""Faults are counted down or switched: each is shown exactly as often as it was asked for, then things are normal."""

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Faults:
    """What to get wrong on purpose.

    rejected_sends: the next N sends are refused with com.microsoft:server-busy and not stored.
    lost_acks: the next N sends are stored, and the connection is dropped before the acknowledgement.
    duplicate_deliveries: the next N deliveries are repeated once more.
    ack_delay: seconds before each acknowledgement.
    refuse_connections: new connections are reset at once while this is True.
    """

    rejected_sends: int = 0
    lost_acks: int = 0
    duplicate_deliveries: int = 0
    ack_delay: float = 0.0
    refuse_connections: bool = False

    def take(self, fault: Literal["rejected_sends", "lost_acks", "duplicate_deliveries"]) -> bool:
        """Whether to show a counted fault now; counts it down."""
        left: int = getattr(self, fault)
        setattr(self, fault, max(left - 1, 0))
        return left > 0
