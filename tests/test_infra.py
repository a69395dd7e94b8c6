"""The templates of infra/: as far as they can be checked without their compiler, and held to what the code reads.

Rule: every setting, role, connection, function and log message in a template is one that the app knows, and the other way round.
"""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from devtools import bicep, cost
from devtools.bicep import Declaration, Template
from shared.settings import SETTINGS
from tests.test_architecture import _modules as modules_of_the_app
from tests.test_architecture import imports, is_of

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
TEMPLATES = bicep.templates()
ALL = [pytest.param(template, id=name) for name, template in TEMPLATES.items()]

READ_BY_OTHERS = {
    "AZURE_CLIENT_ID": "azure-identity: which identity DefaultAzureCredential takes",
    "AzureWebJobsDisableHomepage": "the host: no page of its own at /",
    "AzureWebJobsStorage__clientId": "the host's triggers, timers and keys",
    "AzureWebJobsStorage__credential": "the host's triggers, timers and keys",
    "TOLLGATE_EVENT_HUB__clientId": "the host's trigger record_hub",
    "TOLLGATE_EVENT_HUB__credential": "the host's trigger record_hub",
}
"""Settings in the templates that the app itself does not read, and who does."""

LEFT_EMPTY = {
    "AzureWebJobsStorage": "the account allows no shared key",
    "TOLLGATE_EVENT_HUB": "nor does the namespace",
    "TOLLGATE_ADMIN_ROLE": "an organization's own choice",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Application Insights is made, a collector is not",
}
"""Settings without a default that the templates do not set, and why. All others without one are set."""

ROLES = {
    "Storage Blob Data Owner": "azure.storage.blob",
    "Storage Queue Data Contributor": "azure.storage.queue",
    "Storage Table Data Contributor": "azure.data.tables",
    "Azure Event Hubs Data Sender": "azure.eventhub",
    "Azure Event Hubs Data Receiver": "event_hub_message_trigger",
    "Ingestor": "azure.kusto.ingest",
    "Viewer": "azure.kusto.data",
    "Cognitive Services OpenAI User": "azure.identity.aio",
    "Key Vault Secrets User": "TOLLGATE_ADMIN_KEY",
    "Monitoring Metrics Publisher": "azure.monitor.opentelemetry.exporter",
}
"""What needs each of the app's roles: a package that the code imports, a trigger, or a setting that refers to another service."""

OF_THE_DEPLOYER = {"Storage Blob Data Contributor", "Key Vault Secrets Officer"}


def roles() -> set[str]:
    """Every role that a template gives."""
    stated = bicep.keys(TEMPLATES["roles.bicep"].variables["ids"])
    explorer = next(each for each in TEMPLATES["data-explorer.bicep"].resources if each.name == "roles")
    loop = re.search(r"for role in \[(.+?)\]", TEMPLATES["data-explorer.bicep"].text)
    assert loop
    assert explorer.is_new
    comment = re.search(r"var openAiUser = '[0-9a-f-]+' // (.+)", TEMPLATES["open-ai-role.bicep"].text)
    assert comment
    return {*stated, *re.findall(r"'(\w+)'", loop[1]), comment[1]}


def settings() -> set[str]:
    """Every app setting that a template names."""
    variables = TEMPLATES["app.bicep"].variables
    return {name for part in ("always", "ofEventHubs", "ofExplorer") for name in bicep.keys(variables[part])}


@pytest.mark.parametrize("template", ALL)
def test_the_grammar_fits(template: Template) -> None:
    assert template.broken == []


def test_a_broken_template_is_noticed() -> None:
    assert bicep.read("x", b"resource a 'A/b@2024-01-01' = {\n  name: 'x'\n").broken


@pytest.mark.parametrize("template", ALL)
def test_every_parameter_and_variable_is_used(template: Template) -> None:
    names = {*template.parameters, *template.variables, *(each.name for each in template.resources if not each.is_new)}
    assert {name for name in names if template.words.count(name) < 2} == set()


def modules() -> list[tuple[Template, Declaration]]:
    return [(template, module) for template in TEMPLATES.values() for module in template.modules]


def test_modules_are_given_what_they_take_and_asked_for_what_they_give() -> None:
    wrong = []
    for template, module in modules():
        target = TEMPLATES[module.of]
        given = {path.split("/")[1] for path in module.properties() if path.startswith("params/")}
        required = {name for name, has_default in target.parameters.items() if not has_default}
        asked = set(re.findall(rf"\b{module.name}!?\.outputs\.(\w+)", template.text))
        wrong += [f"{module.name}: {each} is not given" for each in required - given]
        wrong += [f"{module.name}: {each} is not taken" for each in given - set(target.parameters)]
        wrong += [f"{module.name}: {each} is not put out" for each in asked - target.outputs]
    assert wrong == []
    assert {module.of for _, module in modules()} == set(TEMPLATES) - {"main.bicep"}


def test_every_property_was_found_in_the_published_resource_types() -> None:
    """`python -m devtools.bicep TYPES` looked for each in Azure/bicep-types-az; a new one has to be looked for too."""
    checked = json.loads(bicep.CHECKED.read_text())["properties"]
    used: dict[str, set[str]] = {}
    for template in TEMPLATES.values():
        for resource in template.resources:
            used.setdefault(resource.of, set()).update(resource.properties())
    assert {of: sorted(paths) for of, paths in used.items()} == checked


def test_a_property_that_no_type_has_is_noticed() -> None:
    deep = {"type": {"$ref": "#/2"}, "flags": 0}
    types = [
        {"$type": "ObjectType", "properties": {"name": {"type": {"$ref": "#/1"}, "flags": 1}, "deep": deep}},
        {"$type": "StringType"},
        {"$type": "ArrayType", "itemType": {"$ref": "#/3"}},
        {"$type": "ObjectType", "properties": {"id": {"type": {"$ref": "#/1"}, "flags": 2}}},
    ]
    assert bicep._unknown(types, {"$ref": "#/0"}, ["name", "deep", "deep/id", "nmae", "deep/x"]) == [
        "deep/id",
        "nmae",
        "deep/x",
    ]


def test_every_setting_in_the_templates_is_read() -> None:
    known = {setting.name for setting in SETTINGS}
    assert settings() - known == set(READ_BY_OTHERS)


def test_every_setting_that_has_no_default_is_set_by_the_templates() -> None:
    needed = {setting.name for setting in SETTINGS if not setting.default}
    assert needed - settings() == set(LEFT_EMPTY)


def test_every_role_is_needed_by_the_code_and_the_code_needs_no_other() -> None:
    app = modules_of_the_app()
    packages = {name for tree in app.values() for name in imports(tree)}
    recorder = (ROOT / "functions" / "recorder.py").read_text()
    for need in ROLES.values():
        assert any(is_of(name, [need]) for name in packages) or f".{need}(" in recorder or need in settings(), need
    assert roles() == {*ROLES, *OF_THE_DEPLOYER}
    known = {*ROLES.values(), "azure.core", "azure.functions", "azure.identity"}
    assert {name for name in packages if is_of(name, ["azure"]) and not is_of(name, known)} <= {"azure"}


def test_the_names_in_templates_are_the_apps_own() -> None:
    functions = {
        name for path in ROOT.glob("functions/*.py") for name in re.findall(r"async def (\w+)", path.read_text())
    }
    app, alerts = TEMPLATES["app.bicep"].text, TEMPLATES["alerts.bicep"].text
    recorders = re.findall(r"'(record_\w+)'", app)
    named = re.findall(r'Name (?:in \(|== )((?:"\w+"(?:, )?)+)', alerts)
    assert len(recorders) == 2
    assert len(named) == 3
    assert {*recorders, *re.findall(r'"(\w+)"', " ".join(named))} <= functions


def test_the_messages_that_alerts_look_for_are_logged() -> None:
    looked_for = re.findall(r'Message contains "(.+?)"', TEMPLATES["alerts.bicep"].text)
    code = "\n".join(path.read_text() for path in ROOT.glob("shared/**/*.py"))
    assert len(looked_for) == 6
    assert {message for message in looked_for if f'"{message}"' not in code} == set()


def test_what_alerts_look_for_is_neither_filtered_nor_sampled() -> None:
    """Guards that one warning among a million calls arrives."""
    logging = json.loads((ROOT / "host.json").read_text())["logging"]
    sampled = logging["applicationInsights"]["samplingSettings"]
    assert {"Request", "Trace"} <= set(sampled["excludedTypes"].split(";"))
    assert logging["logLevel"] == {
        "default": "Warning",
        "Host.Results": "Information",
        "Host.Aggregator": "Information",
    }
    code = "\n".join(path.read_text() for path in ROOT.glob("shared/**/*.py"))
    for message in re.findall(r'Message contains "(.+?)"', TEMPLATES["alerts.bicep"].text):
        assert re.findall(rf'_log\.(\w+)\(\s*"{message}"', code), message
        assert set(re.findall(rf'_log\.(\w+)\(\s*"{message}"', code)) <= {"warning", "error"}, message


def test_every_instance_serves_many_calls_at_once() -> None:
    """For Python the platform's default is one: an instance for each open stream."""
    site = next(each for each in TEMPLATES["app.bicep"].resources if each.of.startswith("Microsoft.Web/sites@"))
    path = "properties/functionAppConfig/scaleAndConcurrency/triggers/http/perInstanceConcurrency"
    assert site.properties()[path] == "sizes[size].concurrency"
    assert re.findall(r"concurrency: (\d+)", TEMPLATES["app.bicep"].text) == ["100"] * 3


def test_no_service_takes_shared_keys() -> None:
    said = {
        (resource.of.partition("@")[0], path.rpartition("/")[2]): value
        for template in TEMPLATES.values()
        for resource in template.resources
        for path, value in resource.properties().items()
    }
    assert said["Microsoft.Storage/storageAccounts", "allowSharedKeyAccess"] == "false"
    assert said["Microsoft.EventHub/namespaces", "disableLocalAuth"] == "true"
    assert said["Microsoft.KeyVault/vaults", "enableRbacAuthorization"] == "true"
    assert said["Microsoft.Insights/components", "DisableLocalAuth"] == "true"
    assert said["Microsoft.Web/sites/basicPublishingCredentialsPolicies", "allow"] == "false"


def test_python_is_the_version_that_is_tested() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert f"version: '{tools['tool']['mypy']['python_version']}'" in TEMPLATES["app.bicep"].text


def test_azd_finds_what_it_is_told_of() -> None:
    azure = (ROOT / "azure.yaml").read_text()
    service = re.search(r"services:\n  (\w+):", azure)
    assert service
    assert f"'azd-service-name': '{service[1]}'" in TEMPLATES["app.bicep"].text
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    assert set(given) <= set(TEMPLATES["main.bicep"].parameters)
    required = {name for name, has_default in TEMPLATES["main.bicep"].parameters.items() if not has_default}
    assert required <= set(given)
    for script in re.findall(r"run: (\S+)", azure):
        assert (ROOT / script).stat().st_mode & 0o111
    read = set(re.findall(r"TOLLGATE_\w+", (INFRA / "upload-configuration.sh").read_text())) - {
        "TOLLGATE_CONFIG",
        "TOLLGATE_REFRESH_S",
        "TOLLGATE_UPLOAD_PAUSES",
    }
    assert read <= TEMPLATES["main.bicep"].outputs


DEPLOYING = (ROOT / "docs" / "deploying.md").read_text()


def test_the_roles_are_listed_with_why() -> None:
    table = DEPLOYING.partition("| role | on | why |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| ([\w ]+?) \| .+ \| .+ \|$", table, re.MULTILINE)) == set(ROLES)
    assert all(role in DEPLOYING for role in OF_THE_DEPLOYER)


def test_the_parameters_are_listed() -> None:
    table = DEPLOYING.partition("| parameter | default | what for |")[2].partition("\n\n")[0]
    by_azd = {"environmentName", "location", "principalId", "adminKey"}
    listed = {name for name in re.findall(r"`(\w+)`", table) if name in TEMPLATES["main.bicep"].parameters}
    assert listed == set(TEMPLATES["main.bicep"].parameters) - by_azd
    variables = re.findall(r"\$\{(TOLLGATE_\w+)", (INFRA / "main.parameters.json").read_text())
    assert {f"`{name}`" for name in variables} <= set(re.findall(r"`\w+`", table))


def test_the_table_of_sizes_says_what_the_templates_do() -> None:
    table = DEPLOYING.partition("| | small | medium | large |")[2].partition("\n\n")[0]
    said = {row[0]: row[1:] for row in (re.split(r" *\| *", line.strip("| ")) for line in table.splitlines() if line)}

    def stated(template: str, key: str) -> list[str]:
        return re.findall(rf"\b{key}: (\d+)", TEMPLATES[template].text)

    assert said["gateway instances kept ready"] == stated("app.bicep", "gatewaysReady")
    assert said["recorder instances kept ready"] == stated("app.bicep", "recordersReady")
    assert said["most instances"] == stated("app.bicep", "mostInstances")
    assert said["Event Hubs partitions"] == stated("event-hubs.bicep", "partitions")
    units = zip(stated("event-hubs.bicep", "units"), stated("event-hubs.bicep", "mostUnits"), strict=True)
    assert said["Event Hubs throughput units, to at most"] == [f"{least} to {most}" for least, most in units]
    for size in cost.SIZES:
        column = [each.name for each in cost.SIZES].index(size.name)
        assert said["conversations a month, of about 1,000 tokens"][column] == f"{size.conversations:,.0f}"
        assert said["gateway instances kept ready"][column] == str(size.gateways_ready)
        assert said["recorder instances kept ready"][column] == str(size.recorders_ready)


def test_the_costs_in_the_documents_are_those_worked_out() -> None:
    assert cost.table() in DEPLOYING


def test_costs_are_worked_out_right() -> None:
    """By hand, for the small size: its instances work for 1 - e^-x of 220 hours, and the first 100,000 GB-s are free."""
    small, _, large = cost.SIZES
    gateway = 1 - 2.718281828 ** -(10_000 * 8 / 792_000)
    recorder = 1 - 2.718281828 ** -(20_000 * 1 / 792_000)
    gb_s = (gateway + recorder) * 792_000 * 2 + 43_800 * 2
    assert cost.functions(small) == pytest.approx((gb_s - 100_000) * 0.000026)
    assert cost.event_hubs(small) == 0
    assert cost.event_hubs(large) == pytest.approx(2 * 730 * 0.03 + 20 * 0.028)
    assert cost.application_gateway(small) == pytest.approx(730 * (0.443 + 0.0144))


def test_the_runbook_has_a_section_for_each_alert() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    alerts = TEMPLATES["alerts.bicep"]
    named = set(re.findall(r"^    name: '([a-z-]+)'$", alerts.text, re.MULTILINE))
    metric = next(each for each in alerts.resources if each.name == "backlog")
    named.add(metric.properties()["name"].strip("'").removeprefix("tollgate-"))
    assert len(named) == 6
    assert set(re.findall(r"^## Alert: ([a-z-]+)$", runbook, re.MULTILINE)) == named


def upload(folder: Path, az: str = '#!/bin/sh\necho az "$@"\n', **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the hook in a checkout, with an `az` that prints what it is told, or another."""
    (folder / "infra").mkdir()
    shutil.copy(INFRA / "upload-configuration.sh", folder / "infra")
    (folder / "bin").mkdir()
    (folder / "bin" / "az").write_text(az)
    (folder / "bin" / "az").chmod(0o755)
    return subprocess.run(
        [folder / "infra" / "upload-configuration.sh"],
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


PLACE = {"TOLLGATE_STORAGE_ACCOUNT": "sttollgate", "TOLLGATE_CONFIG_CONTAINER": "tollgate-config"}


def test_the_configuration_is_uploaded_to_where_the_app_looks_for_it(tmp_path: Path) -> None:
    (tmp_path / "tollgate.toml").write_text("")
    done = upload(tmp_path, **PLACE)
    assert done.returncode == 0, done.stderr
    assert "storage blob upload --auth-mode login --overwrite" in done.stdout
    assert "--account-name sttollgate --container-name tollgate-config --name tollgate.toml" in done.stdout
    assert "TOLLGATE_CONFIG: 'blob:${configContainer}/tollgate.toml'" in TEMPLATES["app.bicep"].text


def test_the_upload_is_tried_again_until_the_role_that_was_just_given_holds(tmp_path: Path) -> None:
    (tmp_path / "tollgate.toml").write_text("")
    refusing = '#!/bin/sh\n[ "$1" = account ] && exit\necho az >> tries\n[ $(wc -l < tries) -ge 3 ]\n'
    done = upload(tmp_path, az=refusing, TOLLGATE_UPLOAD_PAUSES="0 0", **PLACE)
    assert (done.returncode, (tmp_path / "tries").read_text().count("az")) == (0, 3), done.stderr


def test_an_upload_that_stays_refused_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tollgate.toml").write_text("")
    done = upload(tmp_path, az='#!/bin/sh\n[ "$1" = account ]\n', TOLLGATE_UPLOAD_PAUSES="0 0", **PLACE)
    assert done.returncode == 1
    assert "then azd deploy" in done.stderr


def test_who_is_not_signed_in_is_told_so_at_once(tmp_path: Path) -> None:
    """Guards that nobody waits for minutes: azd's sign-in is not the Azure CLI's."""
    (tmp_path / "tollgate.toml").write_text("")
    done = upload(tmp_path, az="#!/bin/sh\nexit 1\n", TOLLGATE_UPLOAD_PAUSES="99", **PLACE)
    assert done.returncode == 1
    assert "sign in to the Azure CLI" in done.stderr


def test_azd_up_goes_on_where_there_is_no_configuration_yet(tmp_path: Path) -> None:
    done = upload(tmp_path, **PLACE)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no tollgate.toml" in done.stderr


def test_the_hook_says_what_it_misses(tmp_path: Path) -> None:
    done = upload(tmp_path)
    assert done.returncode != 0
    assert "TOLLGATE_STORAGE_ACCOUNT" in done.stderr
