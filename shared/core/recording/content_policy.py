"""How much of what was said is kept.

Rule: what is withheld never leaves the gateway: neither transport nor sink gets it. Usage and digests are read before, so the
ledger is the same whatever the policy is.
"""

from collections import Counter

import msgspec

from shared.core.call_record import CallRecord
from shared.core.calls import Call
from shared.core.configuration import Content
from shared.core.headers import get
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.redaction import redacted

OPT_OUT = "x-tollgate-content"
"""A request header that asks for less to be kept than the client's policy says: `metadata` or `none`."""

_LESS_AND_LESS = (Content.FULL, Content.METADATA, Content.NONE)


def policy_of(call: Call) -> Content:
    """The client's policy, or less where the client may ask for that and does, or the answer is a credential."""
    if call.route.operation.makes_secret:
        return max(call.client.content, Content.METADATA, key=_LESS_AND_LESS.index)
    asked = get(call.request.headers, OPT_OUT)
    if not call.client.may_opt_out or asked not in _LESS_AND_LESS:
        return call.client.content
    return max(call.client.content, Content(asked), key=_LESS_AND_LESS.index)


def limited(call: Call, record: CallRecord) -> CallRecord:
    """The open record of a call as it may be kept. Even a user's name or a tool's is content."""
    policy = policy_of(call)
    if policy is Content.NONE:
        record = msgspec.structs.replace(record, end_user=None, request_parameters={}, user_agent=None)
    return msgspec.structs.replace(record, content=policy)


def keeps_all(call: Call) -> bool:
    """Whether the bodies are kept just as they are. What passes through is kept so, or not at all."""
    return policy_of(call) is Content.FULL and call.client.content_bytes is None and not call.client.redact


def kept(call: Call, closed: ArchivedCall) -> ArchivedCall:
    """What is kept of a call that ended."""
    if closed.record.content != Content.FULL:
        return ArchivedCall(record=closed.record, request=b"", response=b"")
    most, patterns = call.client.content_bytes, call.client.redact
    request = redacted(closed.request, patterns)
    response = redacted(closed.response, patterns, closed.record.response_encoding)
    record = closed.record
    if request.found or response.found:
        found = Counter(request.found) + Counter(response.found)
        record = msgspec.structs.replace(record, redactions=dict(found))
    return ArchivedCall(record=record, request=request.body[:most], response=response.body[:most])
