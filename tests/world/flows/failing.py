"""A flow that never delivers: nothing may be refreshed after it."""

from prefect import flow


@flow(name="failing")
def failing() -> None:
    """Raises, as a source that is down would make it."""
    raise ConnectionError("the source is down")
