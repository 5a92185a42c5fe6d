"""The description of the HTTP interface (OpenAPI 3.1), made of the declarations that also make the command line."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import sonar
from sonar import verbs
from sonar.verbs.declare import Option, OptionType, Reads, Verb
from sonar.web.answers import ARROW

__all__ = ["described", "document"]

_NAMES = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_TYPES: Mapping[OptionType, dict[str, Any]] = {
    OptionType.FLAG: {"type": "boolean"},
    OptionType.UINT: {"type": "integer", "minimum": 0},
    OptionType.FLOAT: {"type": "number"},
    OptionType.DATE: {"type": "string", "examples": ["2024-02-29", "3d", "2w"]},
    OptionType.DURATION: {"type": "string", "examples": ["1w2d3h4m", "90m"]},
    OptionType.HOSTS: {"type": "string", "examples": ["c1-[5-7],gpu*"]},
    OptionType.TEXT: {"type": "string"},
}
_CLUSTER = {
    "name": "cluster",
    "in": "query",
    "required": True,
    "description": "name or alias of a cluster",
    "schema": {"type": "string", "pattern": _NAMES},
}
_TEXT_ERROR = {"text/plain": {"schema": {"type": "string"}}}
_JSON_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_REASONS = {
    "400": "a parameter is wrong, or the question cannot be answered",
    "401": "no name and password, or wrong ones",
    "403": "the role of who asks does not allow that",
    "404": "there is no such thing, or none that who asks may see",
    "405": "only GET and HEAD",
    "429": "too many wrong passwords from there",
    "503": "too many questions at once, or one that takes too much memory",
    "504": "the answer takes too long",
}


@cache
def document() -> bytes:
    """Return the description as JSON."""
    return json.dumps(described(), ensure_ascii=False, sort_keys=True).encode()


def described() -> dict[str, Any]:
    """Return the description."""
    from sonar.web.v2 import described_paths

    paths: dict[str, Any] = {
        "/ping": _simple("Whether the server is alive", "ok", secured=False),
        "/ready": _simple("Whether the server can answer", "", secured=False, json_type="object"),
        "/version": _simple("Version and features of the server", verbs.VERSION, secured=False),
        "/api/v0/version": _simple("The same as a JSON string", verbs.VERSION, secured=False, json_type="string"),
        "/metrics": _simple("Counts in the text format of Prometheus", "", secured=True),
    }
    for name in verbs.NAMES:
        verb = verbs.verb(name)
        paths[f"/{name}"] = {"get": _operation(verb, as_json_string=False)}
        paths[f"/api/v0/{name}"] = {"get": _operation(verb, as_json_string=True)}
    paths |= described_paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sonar",
            "version": sonar.__version__,
            "description": "Questions about computing clusters. See sonar-api(7).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["title", "status", "detail"],
                    "properties": {
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                }
            },
        },
    }


def errors(*, as_json: bool) -> dict[str, Any]:
    """Return the responses that tell of errors."""
    content = _JSON_ERROR if as_json else _TEXT_ERROR
    return {status: {"description": reason, "content": content} for status, reason in _REASONS.items()}


def _operation(verb: Verb, *, as_json_string: bool) -> dict[str, Any]:
    from sonar.verbs.parameters import options_of

    if as_json_string:
        content: dict[str, Any] = {"application/json": {"schema": {"type": "string"}}}
        returns = "what sonalyze(1) prints, as one JSON string; by `Accept` also CSV or an Arrow stream"
    else:
        rows = {"type": ["array", "object"]}
        content = {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": rows}}
        content |= {"text/html": {"schema": {"type": "string"}}} if "html" in verb.controls else {}
        returns = "what sonalyze(1) prints, in the format of `fmt`, else of `Accept`"
    content |= {"text/csv": {"schema": {"type": "string"}}, ARROW: {"schema": {"type": "string", "format": "binary"}}}
    options = [option for option in options_of(verb) if not option.local and option.type is not OptionType.PATH]
    return {
        "summary": verb.summary,
        "operationId": f"{'v0_' if as_json_string else ''}{verb.name}",
        "tags": ["questions of old clients, one JSON string" if as_json_string else "questions"],
        "parameters": ([] if verb.reads is Reads.SITE else [_CLUSTER]) + [_parameter(one, verb) for one in options],
        "responses": {
            "200": {"description": returns, "content": content},
            **errors(as_json=as_json_string),
        },
    }


def _parameter(option: Option, verb: Verb) -> dict[str, Any]:
    schema = dict(_TYPES[option.type])
    if option.type is OptionType.FLAG:
        schema["default"] = False
    elif option.default is not None and not option.repeat:
        schema["default"] = option.default
    text = option.help
    if option.name == "fmt":
        text += "; fields: " + ", ".join(field.name for field in verb.fields)
    made = {"name": option.name, "in": "query", "description": text, "required": option.required, "schema": schema}
    if option.repeat:
        made |= {"schema": {"type": "array", "items": schema}, "style": "form", "explode": True}
    return made


def _simple(summary: str, example: str, *, secured: bool, json_type: str = "") -> dict[str, Any]:
    media_type = "application/json" if json_type else "text/plain"
    content = {media_type: {"schema": {"type": json_type or "string"}, **({"example": example} if example else {})}}
    responses: dict[str, Any] = {"200": {"description": "so it is", "content": content}}
    names = ("405", "503", *(("401", "403", "429") if secured else ()))
    refusal = {**_TEXT_ERROR, **(_JSON_ERROR if json_type else {})}
    responses |= {name: {"description": _REASONS[name], "content": refusal} for name in names}
    return {
        "get": {
            "summary": summary,
            "tags": ["the server"],
            "responses": responses,
            **({} if secured else {"security": []}),
        }
    }
