"""Celery: how failures come in (the door) and how tasks go back on the road (the dispatcher)."""
