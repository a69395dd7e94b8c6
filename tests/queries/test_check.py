"""Every .kql that is shipped, under Microsoft's own parser, and that parser under queries with a fault in them.

Rule: the checker is started once for all that is shipped and all that must be noticed: it takes many seconds to begin.
"""

import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tests.cluster import EXAMPLES, QUERIES, SCHEMA

CHECKER = Path(__file__).parents[2] / "devtools" / "kql_check.mjs"

MAPPING = """.create-merge table T (A: string, B: long)

.create-or-alter table T ingestion json mapping "m"
```
[%s]
```
"""
A = '{"column": "A", "Properties": {"Path": "$.A"}}'
B = A.replace("A", "B")
VIEW = ".create-or-alter materialized-view V on table CallRecords { %s }"

FAULTY: dict[str, tuple[str, str]] = {
    "an operator is misspelt": ("Calls | summarise count()", "KS176"),
    "a column that there is not": ("Calls | where Modelname == ''", "KS142"),
    "a column that was projected away": ("Calls | project CallId | where Status == 200", "KS142"),
    "a function that there is not": ("Calls | extend x = strcat_aray(Attempts, '')", "KS211"),
    "a table that there is not": ("Call | count", "KS204"),
    "a type that does not fit": ("Calls | extend x = bin(ModelName, 1h)", "KS127"),
    "a text compared as a number": ("Calls | where ModelName > 1", "KS106"),
    "too many arguments": ("Calls | extend x = strlen(CallId, 1)", "KS119"),
    "an aggregate outside summarize": ("Calls | extend x = sum(Status)", "KS"),
    "a join on a column of one side": ("Calls | join kind=inner (UsageHourly) on CallId", "KS145"),
    "a join without its kind": ("Calls | join (Calls | project CallId) on CallId", "KS508"),
    "a column that a function's answer lacks": ("ApiManagementGatewayLogs | project ModelName", "KS142"),
    "a fault in a function": (".create-or-alter function F() { Calls | where Nope == 1 }", "KS142"),
    "a fault in a function with its own comments": (
        "// one\n.create-or-alter function F() { Calls }\n\n// two\n.create-or-alter function G() { F | where Nope == 1 }\n",
        "KS142",
    ),
    "a type that there is not": (".create-merge table T (A: strng)", "KS"),
    "a command that there is not": (".create-mrge table T (A: string)", "KS"),
    "a form of .create that nobody looks into": (".create function G() { Calls }", "X100"),
    "a mapping that is no JSON": (MAPPING % "{", "X201"),
    "a mapping of an unknown table": (MAPPING.partition("\n\n")[2] % A, "X200"),
    "a mapping to a column that there is not": (MAPPING % f'{A}, {B}, {A.replace("A", "C")}', "X202"),
    "a mapping that names a column twice": (MAPPING % f"{A}, {B}, {A}", "X203"),
    "a mapping that leaves a column out": (MAPPING % A, "X204"),
    "a mapping without a path": (MAPPING % f'{A}, {B.replace("$.B", "B")}', "X205"),
    "a view of another table": (VIEW % "Calls | summarize count() by ClientId", "X301"),
    "a view without summarize": (VIEW % "CallRecords | where Status == 200", "X302"),
    "a view that depends on the time": (VIEW % "CallRecords | where OpenedAt > ago(1d) | summarize count() by ClientId", "X303"),
    "a view that sorts": (VIEW % "CallRecords | top 5 by Status | summarize count() by ClientId", "X304"),
    "a fault in a view": (VIEW % "CallRecords | summarize count() by Nope", "KS142"),
}  # fmt: skip

PUBLISHED = {
    "usage by caller, as published": """
        ApiManagementGatewayLogs
        | where OperationId == 'chatcompletions_create'
        | extend model = tostring(parse_json(BackendResponseBody)['model'])
        | extend totaltokens = parse_json(parse_json(BackendResponseBody)['usage'])['total_tokens']
        | extend ip = CallerIpAddress
        | summarize sum(todecimal(totaltokens)), avg(todecimal(totaltokens)) by ip, model""",
    "joining the two logs": """
        ApiManagementGatewayLlmLog
        | where DeploymentName != ''
        | join kind=leftouter ApiManagementGatewayLogs on CorrelationId
        | summarize sum(PromptTokens), sum(CompletionTokens) by ApimSubscriptionId, DeploymentName""",
}
"""Queries written for API Management's tables, unaltered."""


def check(*files: Path, schema: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    options = [option for file in schema for option in ("--schema", file)]
    return subprocess.run(["node", CHECKER, *options, *files], capture_output=True, text=True, check=False)


def written(folder: Path, texts: dict[str, str]) -> list[Path]:
    files = [folder / f"{re.sub(r'\W+', '-', name)}.kql" for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text, encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the checker says of each file, by the file's name: lines of `line:column severity code message`."""
    folder = tmp_path_factory.mktemp("queries")
    texts = PUBLISHED | {name: text for name, (text, _) in FAULTY.items()}
    result = check(*EXAMPLES, *written(folder, texts), schema=SCHEMA)
    assert (result.stderr, result.returncode) == ("", 1)
    said = defaultdict(list)
    for line in result.stdout.splitlines():
        file, _, rest = line.partition(".kql:")
        said[Path(file).name].append(rest)
    return said


def test_everything_that_is_shipped_is_clean(found: dict[str, list[str]]) -> None:
    clean = [file.stem for file in (*SCHEMA, *EXAMPLES)] + [re.sub(r"\W+", "-", name) for name in PUBLISHED]
    assert {name: found[name] for name in clean if name in found} == {}


def test_nothing_that_is_shipped_goes_unchecked() -> None:
    assert set(QUERIES.rglob("*.kql")) == {*SCHEMA, *EXAMPLES}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_noticed(name: str, found: dict[str, list[str]]) -> None:
    codes = [line.split()[2] for line in found[re.sub(r"\W+", "-", name)]]
    assert any(code.startswith(FAULTY[name][1]) for code in codes), codes


def test_a_fault_is_told_with_its_place_and_its_absence_by_the_exit_code(tmp_path: Path) -> None:
    clean, faulty = written(tmp_path, {"one line": "print 1\n", "two lines": "print 1\n| where Nope == 1\n"})
    result = check(clean, faulty)
    assert result.stdout.startswith(f"{faulty}:2:9 Error KS142 ")
    assert result.returncode == 1
    result = check(clean)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
