"""demo"""


def demo() -> None:
    """demo."""
