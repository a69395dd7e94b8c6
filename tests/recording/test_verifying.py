"""Chains and `verify`: whatever is altered, deleted, added or moved afterwards is found, and nothing else is."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from shared.core.money.ledger import Span
from shared.core.recording.events import encode
from shared.core.recording.verification import Kind
from shared.recording import verifying
from shared.recording.chains import chain_hours
from shared.recording.recorder import Recorder
from shared.recording.verifying import Report
from tests.emulator import Storage
from tests.examples import NOON, archived, call_id, closed, opened

LATER = NOON + timedelta(hours=1)
DAY = NOON.date()
CHAIN = "2026/11/21/team-blue"


async def record(storage: Storage, *numbers: int) -> None:
    """Calls of noon, of two clients, rolled up."""
    recorder = Recorder(
        archive=storage.archive,
        sinks=(storage.archive, storage.ledger),
        quarantine=storage.quarantine,
        shelf=storage.shelf,
    )
    clients = {number: "team-blue" if number < 8 else "team/red" for number in numbers}
    await recorder.record([encode(closed(number, client_id=client)) for number, client in clients.items()])
    for dirty in await storage.ledger.dirty(Span.HOUR):
        assert await storage.ledger.clear_dirty(dirty)


async def verify(storage: Storage, client_id: str | None = None) -> Report:
    kept = verifying.Kept(storage.archive, storage.ledger, storage.chains)
    return await verifying.verify(kept, DAY, DAY, client_id=client_id, now=LATER)


async def chained(storage: Storage) -> None:
    """Five calls, kept and chained."""
    await record(storage, 1, 2, 3, 8, 9)
    assert await chain_hours(storage.ledger, storage.chains, now=LATER) == 1


async def test_what_is_as_it_was_recorded_has_no_findings(storage: Storage) -> None:
    await chained(storage)
    report = await verify(storage)
    assert (report.calls, report.unsettled, report.findings) == (5, 0, ())
    assert [(each.client_id, each.calls) for each in report.chains] == [("team-blue", 3), ("team/red", 2)]
    assert (await verify(storage, "team/red")).calls == 2


async def _edit(storage: Storage, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    blob = storage.chains._container.get_blob_client(CHAIN)
    lines = (await (await blob.download_blob()).readall()).splitlines(keepends=True)
    await blob.delete_blob()
    await blob.create_append_blob()
    await blob.append_block(b"".join(edit(lines)))


async def _flip_a_byte(storage: Storage) -> None:
    content = await storage.archive.content(call_id(2))
    assert content is not None
    await _put(storage, call_id(2), content[:-2] + b"?" + content[-1:])


async def _other_tokens(storage: Storage) -> None:
    content = await storage.archive.content(call_id(2))
    assert content is not None
    await _put(storage, call_id(2), content.replace(b'"output_tokens":5', b'"output_tokens":4'))


async def _put(storage: Storage, name: str, content: bytes) -> None:
    await storage.archive._container.upload_blob(f"2026/11/21/12/{name}", content, overwrite=True)


TAMPERING: dict[str, tuple[Callable[[Storage], Awaitable[object]], list[tuple[Kind, str, str]]]] = {
    "a body is altered": (_flip_a_byte, [(Kind.ALTERED, "archive", call_id(2))]),
    "a record is altered": (_other_tokens, [(Kind.ALTERED, "archive", call_id(2))]),
    "an object is put over it": (
        lambda storage: storage.archive.put(archived(2)),
        [(Kind.ALTERED, "archive", call_id(2))],
    ),
    "an object is deleted": (
        lambda storage: storage.archive.remove(call_id(2), "*"),
        [(Kind.MISSING, "archive", call_id(2))],
    ),
    "an object is added": (
        lambda storage: storage.archive.put(archived(4)),
        [(Kind.EXTRA, "archive", call_id(4))],
    ),
    "what is no call is added": (
        lambda storage: _put(storage, "notes.txt", b"hello"),
        [(Kind.EXTRA, "archive", "notes.txt")],
    ),
    "the ledger forgets": (
        lambda storage: storage.ledger._table.delete_entity("2026112112", call_id(2)),
        [(Kind.MISSING, "ledger", call_id(2))],
    ),
    "the ledger has another digest, and the archive too": (
        lambda storage: asyncio.gather(
            storage.ledger.set_digest(call_id(2), "ab" * 32), storage.archive.remove(call_id(2), "*")
        ),
        [(Kind.ALTERED, "ledger", call_id(2)), (Kind.MISSING, "archive", call_id(2))],
    ),
    "a line is removed": (
        lambda storage: _edit(storage, lambda lines: [lines[0], lines[2]]),
        [(Kind.BROKEN, "chain", "line 2"), (Kind.MISSING, "chain", call_id(2))],
    ),
    "the last line is removed": (
        lambda storage: _edit(storage, lambda lines: lines[:2]),
        [(Kind.MISSING, "chain", call_id(3))],
    ),
    "the first line is removed": (
        lambda storage: _edit(storage, lambda lines: lines[1:]),
        [(Kind.BROKEN, "chain", "line 1"), (Kind.MISSING, "chain", call_id(1))],
    ),
    "lines are moved": (
        lambda storage: _edit(storage, lambda lines: [lines[1], lines[0], lines[2]]),
        [(Kind.BROKEN, "chain", f"line {number}") for number in (1, 2, 3)],
    ),
    "a line is doubled": (
        lambda storage: _edit(storage, lambda lines: [*lines[:2], lines[1], lines[2]]),
        [(Kind.BROKEN, "chain", "line 3")],
    ),
    "a line is no line": (
        lambda storage: _edit(storage, lambda lines: [*lines, b"{broken"]),
        [(Kind.BROKEN, "chain", "line 4")],
    ),
    "the chain is deleted": (
        lambda storage: storage.chains._container.delete_blob(CHAIN),
        [(Kind.MISSING, "chain", call_id(number)) for number in (1, 2, 3)],
    ),
}


@pytest.mark.parametrize(("tamper", "findings"), TAMPERING.values(), ids=TAMPERING.keys())
async def test_what_was_tampered_with_is_found(
    storage: Storage, tamper: Callable[[Storage], Awaitable[object]], findings: list[tuple[Kind, str, str]]
) -> None:
    await chained(storage)
    await tamper(storage)
    found = (await verify(storage)).findings
    assert [(each.kind, each.where, each.what) for each in found] == findings


async def test_an_hour_that_is_not_over_or_has_open_calls_is_not_chained_yet(storage: Storage) -> None:
    await record(storage, 1)
    await storage.ledger.write([opened(2)])  # its mark is not cleared: the rollup waits for the call's end
    assert await chain_hours(storage.ledger, storage.chains, now=NOON) == 0
    report = await verify(storage)
    assert (report.calls, report.unsettled, report.findings) == (1, 1, ())


async def test_two_timers_chain_each_call_once(storage: Storage) -> None:
    await record(storage, *range(8))
    await asyncio.gather(*(chain_hours(storage.ledger, storage.chains, now=LATER) for _ in range(4)))
    await chain_hours(storage.ledger, storage.chains, now=LATER)  # none may have got through
    blob = await storage.chains._container.download_blob(CHAIN)
    assert (await blob.readall()).count(b"\n") == 8
    assert (await verify(storage)).findings == ()


async def test_a_call_that_ends_late_or_anew_is_added_again_and_its_last_line_holds(storage: Storage) -> None:
    await chained(storage)
    recorder = Recorder(
        archive=storage.archive,
        sinks=(storage.archive, storage.ledger),
        quarantine=storage.quarantine,
        shelf=storage.shelf,
    )
    await recorder.record([encode(closed(1, error="another end"))])
    assert (await verify(storage)).unsettled == 5
    await record(storage, 4)
    assert await chain_hours(storage.ledger, storage.chains, now=LATER) == 1
    assert ((await verify(storage)).calls, (await verify(storage)).findings) == (6, ())
