"""Many engines, one nursery."""

__all__: list[str] = []
