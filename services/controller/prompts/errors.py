"""A specification that cannot be carried out, found when the run is created."""


class InvalidSpecError(ValueError):
    """`field` is the place in the RunSpec, `message` what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
