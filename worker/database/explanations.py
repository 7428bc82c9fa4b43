"""Says what is the matter with PostgreSQL, and what an administrator does about it, where its error alone does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.exc import DBAPIError

from worker.database.sqlstates import INSUFFICIENT_PRIVILEGE, READ_ONLY, TOO_MANY_CONNECTIONS, find_line, sqlstate_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is the matter, with the server's own words in brackets, and the cure."""

    fault: str
    cure: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.cure}"


# The database is a standby, or may not be written to.
TAKES_NO_WRITES = Explanation(
    "the database takes no writes",
    "let OATHBULK_DATABASE_URL lead to the primary, or name all servers in it; if this is the primary, set "
    "default_transaction_read_only = off (docs/deployment.md)",
)
_RAISE = "raise {0} for this role, as in ALTER ROLE oathbulk SET {0} = '5min' (docs/deployment.md)"

# By SQLSTATE.
_EXPLANATIONS = {
    TOO_MANY_CONNECTIONS: Explanation(
        "PostgreSQL has no connection left",
        "lower OATHBULK_DATABASE_CONNECTIONS, start fewer workers or raise max_connections (see docs/sizing.md)",
    ),
    READ_ONLY: TAKES_NO_WRITES,
    INSUFFICIENT_PRIVILEGE: Explanation(
        "the database refuses its role a right",
        "use the role that owns oathbulk's tables; before it can make them, it needs "
        "GRANT USAGE, CREATE ON SCHEMA public TO oathbulk",
    ),
    # invalid_schema_name: none of those in the search_path exists, or the role may use none of them.
    "3F000": Explanation(
        "the database has no schema for oathbulk's tables",
        "make the one that search_path names: CREATE SCHEMA oathbulk AUTHORIZATION oathbulk",
    ),
    # query_canceled: by statement_timeout, or by a person.
    "57014": Explanation("the database ended a statement", _RAISE.format("statement_timeout")),
    # idle_in_transaction_session_timeout
    "25P03": Explanation("the database ended a transaction", _RAISE.format("idle_in_transaction_session_timeout")),
    # transaction_timeout
    "25P04": Explanation("the database ended a transaction", _RAISE.format("transaction_timeout")),
}
# Of PgBouncer, by its words: it has one code for all that it refuses.
_POOLERS = {
    "statement pooling mode": Explanation(
        "PgBouncer stands before the database in statement mode", "set pool_mode = transaction for it, or session"
    ),
    "unsupported startup parameter": Explanation(
        "PgBouncer refuses a parameter of OATHBULK_DATABASE_URL",
        "take it out, and set it with ALTER ROLE oathbulk SET instead",
    ),
}
_ANY_OTHER = Explanation("the database failed", "check OATHBULK_DATABASE_URL and the server")


def explain(error: DBAPIError) -> Explanation:
    """Say what is the matter with the database, and what to do about it."""
    line = find_line(error.orig)
    by_words = next((explanation for words, explanation in _POOLERS.items() if words in line), _ANY_OTHER)
    found = _EXPLANATIONS.get(sqlstate_of(error.orig) or "", by_words)
    return replace(found, fault=f"{found.fault} ({line})")
