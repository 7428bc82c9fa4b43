"""oathbulk at work: activates the tokens of a shipment, one record a task. `tasks` and `celery` are where Celery comes
in, `__main__` and `cli` where a person does; every other package says in its first lines what it is for."""

# Read by the build as well (pyproject.toml); importlib.metadata would take as long to import as Python to start.
__version__ = "0.1.0"
