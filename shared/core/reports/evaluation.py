"""Calls as a dataset for evaluations in Azure AI Foundry: what was asked, what was answered, and what the model knew besides.

Rule: a row is what was really said. A call of which one side is not known, or not kept, makes no row. `ground_truth` is for
people to fill in. https://learn.microsoft.com/azure/foundry/observability/how-to/evaluation-dataset-schema
"""

import msgspec

from shared.core.api.completion_text import ChoiceText
from shared.core.api.prompt_text import Message
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.conversation import conversation


class EvaluationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One test case; its columns are the fields."""

    query: str
    """What the user said last."""
    response: str
    """The first choice; where it says nothing, its refusal."""
    context: str
    """All other messages, in order; with their roles where there are several."""
    ground_truth: str = ""
    call_id: str
    """Where the row comes from. No evaluator looks at it."""


COLUMNS = EvaluationRow.__struct_fields__


def evaluation_row(call: ArchivedCall) -> EvaluationRow | None:
    """The row of a call; None where there is none to make."""
    said = conversation(call)
    asked = [position for position, message in enumerate(said.prompt) if message.role == "user" and message.content]
    response = _response(said.completion[0]) if said.completion else ""
    if not asked or not response:
        return None
    others = (*said.prompt[: asked[-1]], *said.prompt[asked[-1] + 1 :])
    return EvaluationRow(
        query=said.prompt[asked[-1]].content,
        response=response,
        context=_context([message for message in others if message.content]),
        call_id=call.record.call_id,
    )


def _response(choice: ChoiceText) -> str:
    return choice.content or choice.refusal


def _context(messages: list[Message]) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)
