"""A Redis for commands that call PingOne beside no worker: it keeps the pace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from worker.config.settings import Settings
from worker.embedded.home import lock_home
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation


@contextmanager
def settings_with_redis(installation: Installation) -> Iterator[Settings]:
    """Yield settings with a Redis, which keeps the pace: the fleet's, or if none is set, the embedded Valkey, which
    runs until the block ends."""
    # Not imported at the top: structlog is for what calls PingOne.
    from worker.observability.logs import configure_logs

    settings = installation.settings
    # Calls and paces log what they meet; on stdout it would stand amid what `--json` prints.
    configure_logs("WARNING", settings.log_format)
    if settings.redis_url is not None:
        yield settings
        return
    with lock_home(settings.home):
        valkey = EmbeddedValkey(settings.home)
        try:
            yield settings.model_copy(update={"redis_url": SecretStr(valkey.start())})
        finally:
            valkey.stop()
