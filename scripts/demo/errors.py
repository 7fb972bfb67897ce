"""The one error of the demo."""


class DemoError(Exception):
    """Something that ends the demo, told in one sentence."""
