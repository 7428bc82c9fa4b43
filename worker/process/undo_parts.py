"""The parts of a process that undoes a batch: those that all processes have, and those of the command."""

from __future__ import annotations

import time

from worker.audit import Actor
from worker.batches.preparation.inventory import Inventory
from worker.batches.preparation.token_work import TokenWork
from worker.batches.undo.pipeline import Undo
from worker.batches.undo.revocation_jobs import Revoking
from worker.batches.undo.tokens import Tokens
from worker.batches.undo.undo_check import UndoCheck
from worker.config.environment import Environment
from worker.observability.progress import OnProgress, tell_nobody
from worker.process.part import part
from worker.process.parts import Parts


class UndoParts(Parts):
    """Builds the parts of a process that undoes batches."""

    @part
    def undo_check(self) -> UndoCheck:
        return UndoCheck(self.database, self.settings)

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
            send_within=self.settings.tuning.send_within,
        )

    def undo(self, environment: Environment, actor: Actor, on_progress: OnProgress = tell_nobody) -> Undo:
        """The undo of batches of this environment, as this actor commands it."""
        importer, settings = environment.as_importer(), self.settings
        revoking = Revoking(
            self.database,
            self.clients,
            importer,
            self.undo_check,
            time.sleep,
            send_within=settings.tuning.send_within,
            answer_within=settings.tuning.over_after,
        )
        return Undo(
            self.database,
            self.clients,
            environment,
            settings,
            actor,
            self.undo_check,
            Tokens(self.database, self.keyring, self.clients, importer, on_progress),
            revoking,
            self.imports,
            self.token_work,
            time.sleep,
            on_progress,
        )
