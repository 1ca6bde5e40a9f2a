"""Addresses as they may be shown."""

from urllib.parse import urlsplit


def public(url: str) -> str | None:
    """An address without user, password and query; None where it is none that tells them apart."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    behind = url.partition("://")[2].removeprefix(parts.netloc)
    if parts.hostname is None or "@" in behind:  # a password with a slash in it makes a path of its rest
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"
