"""Settings as somebody wrote them: texts, each with its place, from the environment or a TOML file."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "EDGEPROXY_"

# Kubernetes tells each pod about the services of its namespace, and one whose name begins with `edgeproxy` looks like ours.
_SERVICE_LINK: Final = re.compile(
    r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
    r"=.*|[A-Z0-9_]+_PORT=(?:tcp|udp|sctp)://.*",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """One thing wrong with a setting: where it was set (`environment`, `FILE:LINE`, `default`), its name there, what to do."""

    place: str
    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.name} {self.message}"


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody wrote it, where, and under which name."""

    text: str
    place: str
    name: str


def from_environment(
    environ: Mapping[str, str], names: Collection[str], problems: list[SettingsProblem]
) -> dict[str, Given]:
    """Take the settings out of an environment; empty values are none. Unknown names are added to `problems`."""
    given = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or _SERVICE_LINK.fullmatch(f"{variable}={environ[variable]}"):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in names or variable != variable.upper():
            near = difflib.get_close_matches(name, names, 1)
            problems.append(_unknown("environment", variable, [PREFIX + match.upper() for match in near]))
        elif environ[variable].strip():
            given[name] = Given(environ[variable].strip(), "environment", variable)
    return given


def from_file(file: Path, names: Collection[str], problems: list[SettingsProblem]) -> dict[str, Given]:
    """Read the settings of a TOML file. What is wrong with it is added to `problems`."""
    try:
        text = file.read_bytes().decode()
        document = tomllib.loads(text)
    except OSError as error:
        problems.append(SettingsProblem(str(file), "cannot be read:", error.strerror or "unknown error"))
        return {}
    except UnicodeDecodeError:
        problems.append(SettingsProblem(str(file), "cannot be read:", "it is not UTF-8"))
        return {}
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line ([0-9]+)", str(error))
        place = f"{file}:{line[1] if line else len(text.splitlines())}"
        problems.append(SettingsProblem(place, "is not TOML:", "texts stand in quotes, one `name = value` a line"))
        return {}
    given = {}
    for name, value in document.items():
        place = f"{file}:{_line_of(name, text)}"
        if name not in names:
            problems.append(_unknown(place, name, difflib.get_close_matches(name.lower(), names, 1)))
        elif (printed := _printed(value)) is None:
            problems.append(SettingsProblem(place, name, "must be a text in quotes, a whole number or a list of texts"))
        elif printed:
            given[name] = Given(printed, place, name)
    return given


def _printed(value: object) -> str | None:
    """Print a TOML value as the environment would have it, or None if it cannot be one."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _line_of(name: str, text: str) -> int:
    pattern = re.compile(rf"""\s*(?:\[+\s*)?["']?{re.escape(name)}["']?\s*(?:[=.\]]|$)""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _unknown(place: str, name: str, near: list[str]) -> SettingsProblem:
    advice = f"did you mean {near[0]}?" if near else "'edgeproxy serve --help' lists all settings"
    return SettingsProblem(place, name, f"is not a setting; {advice}")
