"""How fast the fleet may go: slots that all worker processes share through Redis, and the search for the limit. Begin
with `slots` (a worker waits for one); `search` finds the limit, `license_paces` stores it in the database."""
