"""The architecture, as far as it can be checked: who imports whom, who reads what, and what importing does.

Rule: a check returns offenders, and each is shown one, so that a check that finds nothing is known to be able to.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOST = {"azure.functions", "azurefunctions", "azure_functions_runtime", "fastapi", "starlette"}
LOCAL_TOOLS = {"devtools", "tests", "bench"}

type Modules = Mapping[str, ast.Module]
"""The app's modules by dotted name."""


def _modules() -> Modules:
    paths = [ROOT / "function_app.py", *ROOT.glob("functions/**/*.py"), *ROOT.glob("shared/**/*.py")]
    return {_dotted(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in paths}


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.fixture(scope="module")
def modules() -> Modules:
    return _modules()


def planted(name: str, source: str) -> Modules:
    return {name: ast.parse(source)}


def imports(tree: ast.AST) -> Iterator[str]:
    """What is imported, dotted; `from a import b` gives a and a.b, for b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_of(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def impure_core(modules: Modules) -> list[str]:
    """Modules of the core that import anything but the standard library, the codec and the core."""
    known = {*sys.stdlib_module_names, "msgspec", "shared.core"}
    return [
        f"{module}: {name}"
        for module, tree in modules.items()
        if is_of(module, ["shared.core"])
        for name in imports(tree)
        if not is_of(name, known) and not (name == "shared" and is_of("shared.core", ["shared"]))
    ]


def importers(modules: Modules, of: set[str]) -> set[str]:
    return {module for module, tree in modules.items() if any(is_of(name, of) for name in imports(tree))}


def environment_readers(modules: Modules) -> set[str]:
    """Modules that name `environ` or `getenv`, whichever way they got hold of it."""
    names = {"environ", "environb", "getenv", "getenvb"}
    return {
        module
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os")
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and {alias.name for alias in node.names} & names)
    }


def cycles(modules: Modules) -> list[list[str]]:
    """Modules that import each other at module level; an import inside a function does not count."""
    edges = {module: {name for name in _at_module_level(tree) if name in modules} for module, tree in modules.items()}
    found, finished = [], set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in finished:
            for each in edges[module] - {module}:
                visit(each, [*path, module])
            finished.add(module)

    for module in modules:
        visit(module, [])
    return found


def _at_module_level(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Try):
            yield from imports(node)


LAYERS = ("core", "storage", "sinks", "transports", "clients", "recording", "gateway", "usage")
"""The packages of `shared`, lowest first; what concerns the whole process stands beside them and may be imported by all."""


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def upward(modules: Modules) -> list[str]:
    """Imports from a package of `shared` into one that stands above it."""
    rank = {f"shared.{layer}": place for place, layer in enumerate(LAYERS)}
    return [
        f"{module}: {name}"
        for module, tree in modules.items()
        for name in imports(tree)
        if rank.get(_package(name), -1) > rank.get(_package(module), len(LAYERS))
    ]


def unwired(modules: Modules, package: str, method: str, using: str) -> set[str]:
    """Classes of `package` with the seam's method that the composition root does not name."""
    used = {node.id for node in ast.walk(modules[using]) if isinstance(node, ast.Name)}
    return {
        f"{module}.{node.name}"
        for module, tree in modules.items()
        if module.startswith(f"{package}.")
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(each, ast.AsyncFunctionDef) and each.name == method for each in node.body)
        and node.name not in used
    }


def mentions(modules: Modules, words: set[str]) -> set[str]:
    """Modules that import, or name in a text, what is there only while developing."""
    texts = tuple(f"{word}{end}" for word in words for end in (".", "/"))
    return importers(modules, words) | {
        module
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(texts)
    }


def test_the_core_imports_only_the_standard_library_and_the_codec(modules: Modules) -> None:
    """Guards that the core does no I/O: it has nothing to do it with."""
    assert impure_core(modules) == []


@pytest.mark.parametrize(
    "line", ["import httpx", "from azure.storage import blob", "from shared.storage import entities"]
)
def test_an_impure_core_is_noticed(line: str) -> None:
    assert impure_core(planted("shared.core.x", line))
    assert not impure_core(planted("shared.x", line))
    assert not impure_core(planted("shared.core.x", "import json\nfrom shared.core.api import sse\nimport msgspec"))


def test_only_functions_knows_the_host(modules: Modules) -> None:
    """Guards that the host can be changed in one place."""
    assert {module for module in importers(modules, HOST) if not is_of(module, ["functions", "function_app"])} == set()


def test_one_who_knows_the_host_is_noticed() -> None:
    for line in ("import azure.functions as func", "from azure import functions", "from fastapi import Request"):
        assert importers(planted("shared.x", line), HOST) == {"shared.x"}
    assert not importers(planted("shared.x", "from azure.data import tables"), HOST)


def test_only_the_edges_that_speak_http_themselves_know_the_http_client(modules: Modules) -> None:
    assert importers(modules, {"httpx"}) == {"shared.gateway.upstream", "shared.http1", "shared.storage.blob_wire"}


def test_only_the_composition_root_reads_the_environment(modules: Modules) -> None:
    assert environment_readers(modules) == {"shared.wiring"}


@pytest.mark.parametrize("line", ["import os\nos.environ['X']", "import os\nos.getenv('X')", "from os import environ"])
def test_one_who_reads_the_environment_is_noticed(line: str) -> None:
    assert environment_readers(planted("shared.x", line)) == {"shared.x"}


def test_no_modules_import_each_other_in_a_circle(modules: Modules) -> None:
    assert cycles(modules) == []


def test_a_circle_is_noticed() -> None:
    circle = {"a": "import b", "b": "from c import x", "c": "if True:\n    import a", "d": "import a"}
    assert len(cycles({name: ast.parse(source) for name, source in circle.items()})) == 1
    late = {"a": "import b", "b": "def f():\n    import a"}
    assert not cycles({name: ast.parse(source) for name, source in late.items()})


def test_packages_import_only_downwards(modules: Modules) -> None:
    assert upward(modules) == []


def test_an_import_upwards_is_noticed() -> None:
    assert upward(planted("shared.storage.x", "from shared.gateway.upstream import Upstream"))
    assert upward(planted("shared.recording.x", "from shared.usage import rollup"))
    assert not upward(planted("shared.usage.x", "from shared.recording import recorder\nfrom shared import telemetry"))


def test_every_sink_and_transport_is_wired(modules: Modules) -> None:
    assert unwired(modules, "shared.sinks", "write", "shared.composition") == set()
    assert unwired(modules, "shared.transports", "send", "shared.composition") == set()


def test_a_sink_that_is_not_wired_is_noticed() -> None:
    sink = "class New:\n    async def write(self, events): ...\nclass Helper:\n    async def read(self): ..."
    both = planted("shared.sinks.new", sink) | planted("wiring", "from shared.sinks.new import Helper")
    assert unwired(both, "shared.sinks", "write", "wiring") == {"shared.sinks.new.New"}
    assert not unwired(both | planted("wiring", "New()"), "shared.sinks", "write", "wiring")


def test_every_sink_and_transport_is_held_to_the_contract(modules: Modules) -> None:
    """The contract tests name what they test; what is wired and not named there would go untested."""
    sinks = unwired(modules | planted("nothing", ""), "shared.sinks", "write", "nothing")
    transports = unwired(modules | planted("nothing", ""), "shared.transports", "send", "nothing")
    for package, classes in {"sinks/test_sinks.py": sinks, "transports/conftest.py": transports}.items():
        tested = ast.parse((ROOT / "tests" / package).read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tested) if isinstance(node, ast.Name)}
        assert {name.rpartition(".")[2] for name in classes} <= names


def test_the_app_does_not_know_what_is_there_only_while_developing(modules: Modules) -> None:
    assert mentions(modules, LOCAL_TOOLS) == set()


@pytest.mark.parametrize("line", ["from devtools import azurite", "import tests.examples", "X = 'devtools/simulator'"])
def test_one_who_knows_the_tools_is_noticed(line: str) -> None:
    assert mentions(planted("shared.x", line), LOCAL_TOOLS) == {"shared.x"}
    assert not mentions(planted("shared.x", "import contests\nX = 'tests pass'"), LOCAL_TOOLS)


IMPORT = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("importing may not open a socket")
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = socket.socket.sendto = refuse
socket.getaddrinfo = socket.create_connection = refuse
{planted}
import function_app
print(sorted(function.get_function_name() for function in function_app.app.get_functions()))
print("loaded:", sorted({"aiohttp", "azure.data.tables", "azure.storage.blob", "httpx", "jwt"} & set(sys.modules)))
"""

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing is set": {},
    "everything is wrong": {
        "AzureWebJobsStorage": "nonsense",
        "TOLLGATE_CONFIG": "/no/such/file",
        "TOLLGATE_PREFIX": "NOT VALID",
        "TOLLGATE_CONNECT_TIMEOUT_S": "soon",
        "TOLLGATE_MAX_REQUEST_BYTES": "-1",
    },
    "storage is away": {
        "AzureWebJobsStorage": "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;"
        "BlobEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a;TableEndpoint=http://127.0.0.1:9/a;",
        "TOLLGATE_CONFIG": '{"clients": 1}',
    },
}


def imported(environment: Mapping[str, str], planted_line: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT.replace("{planted}", planted_line)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_importing_the_app_never_fails_and_does_no_io(environment: dict[str, str]) -> None:
    """Guards that a wrong setting does not take every function away: it shows on /health/ready and in each answer."""
    result = imported(environment)
    assert result.returncode == 0, result.stderr
    assert "'health'" in result.stdout
    assert "'record_queue'" in result.stdout


def test_importing_says_nothing_where_nothing_is_wrong() -> None:
    assert imported(ENVIRONMENTS["nothing is set"]).stderr == ""
    assert imported(ENVIRONMENTS["storage is away"]).stderr == ""


def test_importing_loads_nothing_that_only_calls_need() -> None:
    """Guards the cold start: each of these is a tenth to a half of a second."""
    assert "loaded: []" in imported({}).stdout
    assert "loaded: ['httpx']" in imported({}, "import httpx").stdout


def test_io_while_importing_is_noticed() -> None:
    result = imported({}, "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')")
    assert result.returncode != 0
    assert "importing may not open a socket" in result.stderr
