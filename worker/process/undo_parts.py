"""The parts of a process that undoes a batch: those that all processes have, and those of the two commands."""

from __future__ import annotations

import time

from worker.audit import Actor
from worker.batches.preparation.inventory import Inventory
from worker.batches.preparation.token_work import TokenWork
from worker.batches.undo.revocation import Revocation
from worker.batches.undo.revocation_jobs import RevocationJobs
from worker.batches.undo.revoking import Revoking
from worker.batches.undo.standing import Standing
from worker.batches.undo.token_list import TokenList
from worker.batches.undo.unpairing import Unpairing
from worker.config.environment import Environment
from worker.observability.progress import OnProgress, tell_nobody
from worker.process.part import part
from worker.process.parts import Parts


class UndoParts(Parts):
    """Builds the parts of a process that undoes batches."""

    @part
    def standing(self) -> Standing:
        return Standing(self.database, self.settings)

    @part
    def token_work(self) -> TokenWork:
        inventory = Inventory(self.database, self.keyring)
        # Only ends jobs, so that no batch has to be kept for it.
        return TokenWork(
            self.database,
            self.clients,
            inventory,
            self.imports,
            renew=lambda _: True,
            wait=time.sleep,
            send_within=self.settings.send_within,
        )

    @part
    def tokens(self) -> TokenList:
        return TokenList(self.database, self.keyring)

    def unpairing(self, environment: Environment, actor: Actor, on_progress: OnProgress = tell_nobody) -> Unpairing:
        """The removal of devices of batches of this environment, as this actor commands it."""
        parts = (self.database, self.clients, environment, self.settings, self.standing)
        return Unpairing(*parts, actor, time.sleep, on_progress=on_progress)

    def revocation(self, environment: Environment, actor: Actor, on_progress: OnProgress = tell_nobody) -> Revocation:
        """The revocation of tokens of batches of this environment, as this actor commands it."""
        importer, settings = environment.as_importer(), self.settings
        revoking = Revoking(
            self.database,
            self.clients,
            importer,
            self.standing,
            RevocationJobs(self.database, settings.over_after),
            settings.tokens_per_import,
            time.sleep,
            send_within=settings.send_within,
        )
        parts = (self.standing, self.tokens, self.imports, self.token_work, revoking)
        return Revocation(self.database, self.clients, importer, actor, *parts, on_progress=on_progress)
