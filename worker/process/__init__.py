"""One worker process put together: the parts that work in it, its threads and processors, and Celery's own edges.

May import every story and neighbour; nothing but the doors (`celery`, `tasks`), `installation` and `cli` imports it.
Begin with `parts`, the one place where parts are built.
"""
