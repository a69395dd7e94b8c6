"""What is withheld never leaves the gateway."""

import msgspec
import pytest

from shared.core.configuration import Content
from shared.core.recording.accounting import open_record
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.content_policy import kept, limited
from tests.examples import call, inbound

BODY = b'{"model":"gpt-4o","user":"ann","temperature":0.5,"tools":[{"type":"function","function":{"name":"dial"}}]}'

CASES = {
    # policy, may opt out, header -> policy, end user, bodies
    "full": (Content.FULL, False, None, "full", "ann", True),
    "metadata": (Content.METADATA, False, None, "metadata", "ann", False),
    "none": (Content.NONE, False, None, "none", None, False),
    "asking for less without the right": (Content.FULL, False, "none", "full", "ann", True),
    "asking for less": (Content.FULL, True, "none", "none", None, False),
    "asking for a little less": (Content.FULL, True, "metadata", "metadata", "ann", False),
    "asking for more": (Content.NONE, True, "full", "none", None, False),
    "asking for nonsense": (Content.METADATA, True, "everything", "metadata", "ann", False),
}


@pytest.mark.parametrize(("policy", "may", "asked", "applied", "user", "bodies"), CASES.values(), ids=CASES.keys())
def test_a_request_can_ask_for_less_but_never_for_more(
    policy: Content, may: bool, asked: str | None, applied: str, user: str | None, bodies: bool
) -> None:
    """Invariant: content is recorded as the client's policy says."""
    headers = {"x_tollgate_content": asked} if asked else {}
    made = call(BODY, inbound(user_agent="agent", **headers))
    client = msgspec.structs.replace(made.client, content=policy, may_opt_out=may)
    made = msgspec.structs.replace(made, client=client)
    record = limited(made, open_record(made))
    assert (record.content, record.end_user) == (applied, user)
    assert bool(record.request_parameters) is (applied != "none")
    archived = kept(made, ArchivedCall(record=record, request=BODY, response=b"answer"))
    assert (archived.request, archived.response) == ((BODY, b"answer") if bodies else (b"", b""))


def test_a_credential_in_an_answer_is_never_kept() -> None:
    """Invariant: secrets are never recorded."""
    made = call(b"{}", inbound("/v1/realtime/client_secrets"))
    record = limited(made, open_record(made))
    assert record.content == "metadata"
    assert kept(made, ArchivedCall(record=record, request=b"{}", response=b"ek_secret")).response == b""


def test_bodies_are_cut_to_the_clients_size_and_the_record_still_says_their_own() -> None:
    made = call(BODY)
    made = msgspec.structs.replace(made, client=msgspec.structs.replace(made.client, content_bytes=4))
    archived = kept(made, ArchivedCall(record=limited(made, open_record(made)), request=BODY, response=b"answer"))
    assert (archived.request, archived.response) == (BODY[:4], b"answ")
    assert archived.record.request_bytes == len(BODY)
