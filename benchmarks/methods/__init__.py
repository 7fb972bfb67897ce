"""How is measured."""
