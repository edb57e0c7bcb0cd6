"""Many engines, one nursery."""
