"""The app settings."""

import msgspec
import pytest

from shared.settings import SETTINGS, Settings, SettingsInvalid, read_settings


def test_nothing_set_gives_the_defaults() -> None:
    settings = read_settings({})
    assert (settings.storage, settings.prefix, settings.idle_timeout_s) == ("", "tollgate", 900.0)


def test_an_empty_value_is_a_missing_one() -> None:
    assert read_settings({setting.name: "" for setting in SETTINGS}) == read_settings({})


def test_every_field_is_read_from_one_setting() -> None:
    assert sorted(setting.field for setting in SETTINGS) == sorted(Settings.__struct_fields__)
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    assert all(setting.help.endswith(".") for setting in SETTINGS)


def test_values_are_read_as_what_they_are() -> None:
    settings = read_settings(
        {"TOLLGATE_PREFIX": "t1", "TOLLGATE_CONNECT_TIMEOUT_S": "0.5", "TOLLGATE_MAX_REQUEST_BYTES": "7", "OTHER": "x"}
    )
    assert (settings.prefix, settings.connect_timeout_s, settings.max_request_bytes) == ("t1", 0.5, 7)


NUMBERS = [setting.name for setting in SETTINGS if setting.name.endswith(("_S", "_BYTES"))]
PREFIX = "TOLLGATE_PREFIX"
WRONG = [
    *((name, text) for name in NUMBERS for text in ("soon", "0", "-1", "nan", "inf", "1e999")),
    *((PREFIX, text) for text in ("Upper", "1digit", "with-hyphen", "with space", "ü", "a" * 21, "../x")),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_value_names_its_setting_and_says_what_it_is_for(name: str, text: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings({name: text})
    (problem,) = caught.value.problems
    assert problem.startswith(name)
    assert next(setting.help for setting in SETTINGS if setting.name == name) in problem


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(dict.fromkeys([*NUMBERS, PREFIX], "x y"))
    assert {problem.split()[0] for problem in caught.value.problems} == {*NUMBERS, PREFIX}
    assert str(caught.value) == "; ".join(caught.value.problems)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        read_settings({}).prefix = "x"  # type: ignore[misc]
    assert msgspec.structs.replace(read_settings({}), prefix="x").prefix == "x"
