"""oathbulk at work: activates the tokens of a shipment, one record a task. `tasks` and `celery` are where Celery comes
in, `__main__` and `cli` where a person does; every other package says in its first lines what it is for."""
