"""`/docs`: the API's description as one page that needs nothing from anywhere else."""

import json
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: 13px }
summary { cursor: pointer; padding: .3rem 0 } code { font-size: 14px } td { padding: 0 1rem 0 0; vertical-align: top }
"""


def render(schema: dict[str, Any]) -> str:
    """The page: every operation by tag, with its parameters, examples and answers."""
    title = escape(schema["info"]["title"])
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title} {escape(schema['info']['version'])}</h1><p><a href='openapi.json'>openapi.json</a></p>",
    ]
    operations = [
        (path, method, operation) for path, item in schema["paths"].items() for method, operation in item.items()
    ]
    for tag in schema["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>")
        parts += [
            _operation(path, method, operation)
            for path, method, operation in operations
            if tag["name"] in operation.get("tags", [])
        ]
    parts.append(f"<h2>Schemas</h2>{_folded('all', _json(schema['components']['schemas']))}</html>")
    return "\n".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    body = [f"<p>{escape(operation.get('description', ''))}</p>"]
    rows = [
        (f"<code>{escape(item['name'])}</code> ({escape(item['in'])})", escape(item.get("description", "")))
        for item in operation.get("parameters", [])
    ]
    body.append(_table(rows))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        body += [f"<p>Request</p>{_json(content['example'])}"] if "example" in content else []
    body.append(_table([(status, escape(item["description"])) for status, item in operation["responses"].items()]))
    for status, item in operation["responses"].items():
        shown = item.get("content", {}).get("application/json", {})
        body += [f"<p>Answer {status}</p>{_json(shown['example'])}"] if "example" in shown else []
    head = f"<code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}"
    return _folded(head, "".join(body))


def _folded(head: str, body: str) -> str:
    return f"<details><summary>{head}</summary>{body}</details>"


def _table(rows: list[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in rows) + "</table>"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
