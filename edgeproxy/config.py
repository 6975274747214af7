"""Reading the settings. Nothing else reads the environment.

A setting is an environment variable `EDGEPROXY_NAME`, or `name` in a TOML file; the environment wins, and an empty value is none. All
problems are told together. `given` finds what somebody wrote, `setting_table` has what there is to set, and `settings` is what comes out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgeproxy.addresses import (
    Listener,
    host_of,
    is_same_or_under,
    listener,
)
from edgeproxy.given import PREFIX, Given, SettingsProblem, from_environment, from_file
from edgeproxy.setting_table import DEFAULT_BIND, SETTINGS
from edgeproxy.settings import Settings, addresses_of

__all__ = ["SettingsError", "SettingsProblem", "describe", "environment", "listening", "load"]

DEFAULT_FILE: Final = Path("edgeproxy.toml")
"""Read where no other file is named, if it is there."""


class SettingsError(Exception):
    """The settings are not usable; `problems` is never empty."""

    def __init__(self, problems: tuple[SettingsProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def environment() -> Mapping[str, str]:
    """Give the environment of this process."""
    return os.environ


def load(environ: Mapping[str, str], file: Path | None, *, defaults: Mapping[str, str] | None = None) -> Settings:
    """Read all settings once.

    `file` is a TOML file, or None for none. `defaults` (name in lower case to text) take the place of the defaults of the table.

    Raises:
        SettingsError: with every problem there is.

    """
    problems: list[SettingsProblem] = []
    given = from_file(file, _NAMES, problems) if file is not None else {}
    given |= from_environment(environ, _NAMES, problems)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if (source := given.get(setting.name)) is None and (text := (defaults or {}).get(setting.name)) is not None:
            source = Given(text, "default", PREFIX + setting.name.upper())
        try:
            if source is not None:
                values[setting.name] = setting.parse(source.text)
            elif values.keys() >= set(setting.needs):
                values[setting.name] = setting.derive(values)
        except ValueError as error:
            place, name = (source.place, source.name) if source else ("not set", PREFIX + setting.name.upper())
            problems.append(SettingsProblem(place, name, str(error)))
    problems += _conflicts(values, given)
    if problems:
        raise SettingsError(tuple(problems))
    return Settings(**values)


def listening(environ: Mapping[str, str], file: Path | None) -> Listener:
    """Read where the registry listens and nothing else, for who only asks it something.

    Raises:
        SettingsError: the file or the address cannot be read.

    """
    problems: list[SettingsProblem] = []
    given = from_file(file, _NAMES, problems) if file is not None else {}
    given |= from_environment(environ, _NAMES, [])
    if problems:
        raise SettingsError(tuple(problems))
    source = given.get("bind")
    if source is None:
        return listener(DEFAULT_BIND)
    try:
        return listener(source.text)
    except ValueError as error:
        raise SettingsError((SettingsProblem(source.place, source.name, str(error)),)) from None


def describe() -> tuple[tuple[str, str, str], ...]:
    """List every setting as (environment variable, meaning, default)."""
    return tuple((PREFIX + setting.name.upper(), setting.meaning, setting.default) for setting in SETTINGS)


def _conflicts(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[SettingsProblem]:
    """Look at what only shows between settings, as far as they could be read."""
    problems = []

    def problem(setting: str, message: str) -> None:
        source = given.get(setting)
        place, name = (source.place, source.name) if source else ("default", PREFIX + setting.upper())
        problems.append(SettingsProblem(place, name, message))

    if values.keys() >= {"public_url", "store_public_endpoint", "deliver"} and values["deliver"] != "proxy":
        public, store = host_of(values["public_url"]), host_of(values["store_public_endpoint"])
        if is_same_or_under(store, public):
            problem(
                "store_public_endpoint",
                f"has the host {store}, which is or lies under {public}, the host of EDGEPROXY_PUBLIC_URL: clients would send "
                "their tokens to the store. Give the store another host name, or set EDGEPROXY_DELIVER=proxy",
            )
    if given.keys() >= {"signing_keys", "signing_keys_pem"}:
        problem("signing_keys_pem", "holds keys while EDGEPROXY_SIGNING_KEYS names files of keys: set one of the two")
    if values.get("server") == "granian" and values.get("workers", 1) > 1:
        for setting in ("bind", "store_bind", "operations_bind"):
            if str(values.get(setting)).startswith("unix:"):
                problem(
                    setting,
                    "is a unix socket, which several workers of granian cannot share: use a port, EDGEPROXY_WORKERS=1, or "
                    "EDGEPROXY_SERVER=hypercorn",
                )
    taken: dict[str, str] = {}
    for setting in ("bind", "store_bind", "operations_bind"):
        for address in addresses_of(values.get(setting)):
            if address in taken:
                problem(
                    setting, f"is {address}, where {PREFIX}{taken[address].upper()} listens already: use another port"
                )
                break
            taken[address] = setting
    return problems


_NAMES: Final = tuple(setting.name for setting in SETTINGS)
