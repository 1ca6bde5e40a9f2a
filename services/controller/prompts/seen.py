"""Which prompts were there before, by what they say and by their ids, in as little memory as that takes."""


class Seen:
    """Contents and ids of the prompts so far, and where each stands. A content's id is the hex of its digest."""

    def __init__(self) -> None:
        self._contents: dict[bytes, str] = {}
        self._ids: dict[str, str] = {}

    def known(self, where: str, content: bytes, identity: str | None) -> str | None:
        """Where an equal one stands; None for one that is new, which is remembered. `identity` None: its content's."""
        place = self._contents.get(content)
        if identity is not None or self._ids:
            name = content.hex() if identity is None else identity
            places = (place, self._ids.get(name), self._hex(identity))
            place = min((known for known in places if known is not None), default=None)
        if place is None:
            self._contents[content] = where
            if identity is not None:
                self._ids[identity] = where
        return place

    def _hex(self, identity: str | None) -> str | None:
        """The prompt whose content has a given id for its own."""
        if identity is None or len(identity) != 16:
            return None
        try:
            return self._contents.get(bytes.fromhex(identity))
        except ValueError:
            return None
